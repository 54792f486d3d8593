"""A model on a server as a judge: what is asked, and what becomes of servers that fail."""

import base64
import gc
import io
import socket
import threading
import time

import numpy as np
import pytest
import torch
from icedit.early_filter.judge import Candidate, Choice, JudgeError, Question
from icedit.early_filter.judges.endpoint import MAX_RESPONSE, Endpoint
from icedit.early_filter.judges.prompts import comparison
from icedit.early_filter.judges.vlm import VLMJudge
from PIL import Image
from support.chat_server import ChatServer, Reply, endpoint, says
from support.judges import poll
from support.pictures import photograph

pytestmark = pytest.mark.usefixtures("no_judge_key")

SOURCE, FIRST, SECOND = photograph(1, 64, 96), Candidate(1, photograph(2, 64, 96)), Candidate(2, photograph(3, 64, 96))
QUESTION = Question(SOURCE, "make it blue")
REQUEST = comparison(QUESTION, FIRST, SECOND)


def answer(reply, **options):
    """The one answer to the one request, and the server that gave it."""
    with ChatServer(reply) as server:
        (said,) = endpoint(server, **options).ask([REQUEST], poll)
    return said, server


def test_the_request_is_what_openai_compatible_servers_take():
    said, server = answer(lambda *_: says("ANSWER: 2"))
    assert said == "ANSWER: 2"
    (call,) = server.calls
    assert call.path == "/v1/chat/completions"
    assert "Authorization" not in call.headers
    assert (call.body["model"], call.body["temperature"], call.body["seed"]) == ("a-model", 0, 0)
    (message,) = call.body["messages"]
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["text", "image_url"] * 3 + ["text"]
    assert [part["text"] for part in message["content"][:6:2]] == ["SOURCE:", "EDIT 1:", "EDIT 2:"]
    assert "make it blue" in message["content"][-1]["text"]
    for part, sent in zip(message["content"][1::2], (SOURCE, FIRST.panel, SECOND.panel), strict=True):
        head, data = part["image_url"]["url"].split(",")
        assert head == "data:image/jpeg;base64"
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), dtype=np.float32) / 255
        assert shown.shape == (64, 96, 3)
        assert np.abs(shown - sent.numpy()).mean() < 0.02


def test_one_picture_for_models_that_take_only_one():
    _, server = answer(lambda *_: says("ANSWER: 2"), one_picture=True)
    content = server.calls[0].body["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "text"]


def test_a_judge_over_http_decides():
    def reply(_, call):
        # The second picture of three is EDIT 1: prefer it exactly when it is the panel of SECOND.
        shown = call.body["messages"][0]["content"][3]["image_url"]["url"]
        return says("ANSWER: 1" if shown == wanted else "ANSWER: 2")

    from icedit.early_filter.judges.pictures import data_url

    wanted = data_url(SECOND.panel)
    with ChatServer(reply) as server:
        judge = VLMJudge("server", endpoint(server).ask)
        assert judge.compare(QUESTION, FIRST, SECOND, poll).choice is Choice.SECOND
        assert judge.compare(QUESTION, SECOND, FIRST, poll).choice is Choice.FIRST


def test_an_empty_model_is_refused():
    with pytest.raises(ValueError, match="model is empty"):
        Endpoint("http://localhost/v1", " ")


@pytest.mark.parametrize(
    "first",
    [
        Reply(b"overloaded", 500),
        Reply(b"loading model", 503),
        Reply(b"slow down", 429, {"Retry-After": "0"}),
        Reply(b"", 502, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        Reply(says("ANSWER: 1").body[:20], length=500),
    ],
    ids=["500", "503", "429", "502", "truncated"],
)
def test_what_may_pass_is_tried_again(first):
    said, server = answer(lambda number, _: first if number == 0 else says("ANSWER: 1"))
    assert said == "ANSWER: 1"
    assert len(server.calls) == 2


def test_tries_are_limited_and_wait_longer_each_time(caplog):
    said, server = answer(lambda *_: Reply(b"overloaded", 500), retries=2, backoff=0.2)
    assert isinstance(said, JudgeError)
    assert "500: overloaded" in str(said)
    first, second, third = (call.at for call in server.calls)
    assert [message.rpartition(" in ")[2] for message in caplog.messages] == ["0.2 s.", "0.4 s."]
    # No less; how much more is the computer's affair.
    assert second - first >= 0.2
    assert third - second >= 0.4


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(b"<html>hello</html>"), "did not answer as an OpenAI-compatible server: <html>"),
        (Reply(b""), "OpenAI-compatible server: nothing"),
        (Reply(b'{"choices": []}'), "OpenAI-compatible"),
        (Reply(b'{"choices": [{"message": {"content": null}}]}'), "OpenAI-compatible"),
        (Reply(b'{"choices": [{"message": {"content": [3]}}]}'), "OpenAI-compatible"),
        (Reply(b"[" * 100_000), "OpenAI-compatible"),
        (Reply(b"\xff\xfe\x00"), "OpenAI-compatible"),
        (Reply(b'{"error": "no such model"}', 404), "no such model.*Check base_url.*'a-model'"),
        (Reply(b"bad", 400), "answered 400: bad"),
        (Reply(b"no key", 401), "refuses access.*Put the key into the environment variable ICEDIT_JUDGE_API_KEY"),
        (Reply(b"", 302, {"Location": "http://elsewhere/v1"}), "redirects to http://elsewhere/v1.*not followed"),
        (Reply(b" " * (MAX_RESPONSE + 1)), "more than 1048576 bytes"),
    ],
)
def test_nonsense_is_an_error_at_once(reply, message):
    said, server = answer(lambda *_: reply)
    assert isinstance(said, JudgeError)
    with pytest.raises(JudgeError, match=message):
        raise said
    assert len(server.calls) == 1
    assert len(str(said)) < 700


def test_content_in_parts_is_read():
    parts = b'[{"type": "text", "text": "ANSWER"}, {"type": "text", "text": ": 1"}]'
    assert answer(lambda *_: Reply(b'{"choices": [{"message": {"content": %s}}]}' % parts))[0] == "ANSWER: 1"


@pytest.mark.parametrize("reply", [Reply(hang=120), Reply(b"x" * 2400, drip=0.05)], ids=["hangs", "drips"])
def test_a_server_that_never_finishes_is_given_up(reply):
    started = time.monotonic()
    said, server = answer(lambda *_: reply, timeout=1.0)
    # Far from the two minutes that the reply takes, however busy this computer is.
    assert 0.9 < time.monotonic() - started < 30
    assert isinstance(said, JudgeError)
    assert "did not answer within 1 s" in str(said)
    assert len(server.calls) == 1


def test_no_server():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        (said,) = Endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}", "m", backoff=0.01).ask([REQUEST], poll)
    assert isinstance(said, JudgeError)
    assert "Is the server running?" in str(said)


@pytest.mark.parametrize("reply", [Reply(hang=120), Reply(b"x" * 2400, drip=0.05), Reply(b"", 503)])
def test_an_interrupt_is_felt_at_once_and_leaves_nothing_behind(reply):
    before = set(threading.enumerate())
    interrupted = time.monotonic() + 0.5

    def interrupt():
        if time.monotonic() > interrupted:
            raise InterruptedError

    with ChatServer(lambda *_: reply) as server:
        with pytest.raises(InterruptedError):
            endpoint(server, timeout=240, backoff=60).ask([REQUEST] * 3, interrupt)
        # Everything that it might have waited for lasts a minute or more.
        assert time.monotonic() - interrupted < 15
        assert {thread.name for thread in set(threading.enumerate()) - before if "judge" in thread.name} == set()
    gc.collect()  # an unclosed session would warn here


def test_requests_run_in_parallel_up_to_the_limit_and_answers_keep_their_order():
    with ChatServer(
        lambda _, call: Reply(says(call.body["messages"][0]["content"][-1]["text"][-1]).body, hang=0.1)
    ) as server:
        requests = [type(REQUEST)(f"say {number}", REQUEST.pictures[:1]) for number in range(8)]
        assert endpoint(server, parallel=3).ask(requests, poll) == [str(number) for number in range(8)]
        assert server.most_under_way == 3


def test_one_failure_leaves_the_other_answers():
    def reply(_, call):
        return Reply(b"bad", 400) if call.body["messages"][0]["content"][-1]["text"] == "1" else says("fine")

    with ChatServer(reply) as server:
        requests = [type(REQUEST)(str(number), REQUEST.pictures[:1]) for number in range(3)]
        said = endpoint(server).ask(requests, poll)
    assert said[0] == said[2] == "fine"
    assert isinstance(said[1], JudgeError)


def test_it_works_where_an_event_loop_is_running():
    """The host calls nodes from inside its own loop."""
    import asyncio

    async def node():
        return answer(lambda *_: says("ANSWER: 1"))[0]

    assert asyncio.run(node()) == "ANSWER: 1"


@pytest.mark.host
def test_the_node_calls_nobody_until_it_judges(host):
    with ChatServer(lambda *_: says("ANSWER: 1")) as server:
        (judge,) = host.call(
            "EditJudgeEndpoint", base_url=server.url, model="m", checks=False, swap_order=True, pictures="one picture"
        )
        assert server.calls == []
        assert server.url in judge.name
        edits = Candidate(1, torch.zeros(32, 32, 3)), Candidate(2, torch.ones(32, 32, 3))
        assert judge.compare(QUESTION, *edits, poll).choice.value == "tie"
        assert len(server.calls) == 2
        assert len(server.calls[0].body["messages"][0]["content"]) == 2


@pytest.mark.parametrize(
    "wrong", [{"timeout": 0}, {"timeout": float("nan")}, {"backoff": float("inf")}, {"parallel": 0}]
)
def test_waits_and_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="timeout and parallel must be above 0"):
        Endpoint("http://localhost:1", "a-model", **wrong)
