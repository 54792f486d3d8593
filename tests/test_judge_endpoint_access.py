"""Which servers a judge asks, and where its key goes: nowhere else."""

import logging
import traceback

import pytest
from icedit.early_filter.judge import JudgeError
from icedit.early_filter.judges import api_key
from icedit.early_filter.judges.endpoint import Endpoint
from icedit.early_filter.judges.prompts import comparison
from icedit.early_filter.judges.vlm import VLMJudge
from support.chat_server import ChatServer, Reply, endpoint, says
from support.judges import FIRST, QUESTION, SECOND, poll

pytestmark = pytest.mark.usefixtures("no_judge_key")

CANARY = "sk-canary-5f1d7c"


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://localhost:11434", "http://localhost:11434/v1/chat/completions"),
        ("http://localhost:11434/", "http://localhost:11434/v1/chat/completions"),
        (" https://example.org/api/v1/ ", "https://example.org/api/v1/chat/completions"),
        ("http://[::1]:8000/v1/chat/completions", "http://[::1]:8000/v1/chat/completions"),
        ("http://localhost/prompt#", "http://localhost/prompt/chat/completions"),
        ("http://localhost/prompt?", "http://localhost/prompt/chat/completions"),
    ],
)
def test_addresses(base_url, url, monkeypatch):
    monkeypatch.setenv(api_key.HOSTS_VARIABLE, "example.org")
    assert Endpoint(base_url, "m").url == url


@pytest.mark.parametrize(
    "base_url",
    ["", "localhost:11434", "ftp://host/v1", "file:///etc/passwd", "http://", "http://host:port/v1", "http://[::1/v1"],
)
def test_what_is_no_address_is_refused(base_url):
    with pytest.raises(ValueError, match="must start with http:// or https://"):
        Endpoint(base_url, "m")


@pytest.mark.parametrize("base_url", ["http://me:secret@host/v1", "https://host/v1?key=secret", "http://host/#secret"])
def test_secrets_in_the_address_are_refused_and_not_repeated(base_url):
    with pytest.raises(ValueError, match=api_key.KEY_VARIABLE) as caught:
        Endpoint(base_url, "m")
    assert "secret" not in str(caught.value)


def leaky(number, call):
    """Sends back whatever key it was given, in every place that ends up in a message."""
    key = call.headers["Authorization"]
    return [
        says(f"ANSWER: 1 {key}"),
        Reply(f"wrong key {key}".encode(), 401),
        Reply(b" " * 290 + key.encode(), 500),
        Reply(b"x" * 290 + key.encode(), 400),
        Reply(b"", 307, {"Location": f"http://elsewhere/?{key}"}),
        Reply(f'{{"choices": "{key}"}}'.encode()),
        says(f"ANSWER: 2 {key}".replace("sk", "\\u0073k")),
    ][number]


def test_the_key_reaches_the_server_and_nothing_else(monkeypatch, caplog, capfd):
    monkeypatch.setenv(api_key.KEY_VARIABLE, f" {CANARY}\n")
    seen = []
    with caplog.at_level(logging.DEBUG), ChatServer(leaky) as server:
        judge = VLMJudge("server", endpoint(server, retries=0).ask, checks=False, swap_order=False)
        seen += [repr(judge), repr(judge.ask)]
        for _ in range(7):
            try:
                seen.append(repr(judge.compare(QUESTION, FIRST, SECOND, poll)))
            except JudgeError as error:
                seen += [str(error), repr(error), "".join(traceback.format_exception(error))]
        assert len(server.calls) == 7
        assert all(call.headers["Authorization"] == f"Bearer {CANARY}" for call in server.calls)
        assert all(CANARY not in str(call.body) for call in server.calls)
    seen += [caplog.text, *capfd.readouterr()]
    everything = "\n".join(seen)
    assert everything.count("***") >= 5
    assert CANARY not in everything
    assert "sk-cana" not in everything


STRANGERS = [
    "https://api.example.org/v1", "http://localhost.example.org/v1", "http://192.168.1.5/v1", "http://0.0.0.0:80/v1",
    "http://169.254.169.254/latest/meta-data", "http://2130706433/v1", "http://127.1/v1", "http://localhost%00.org/v1",
    "http://127.0.0.1\t.example.org/v1", "http://\uff4cocalhost/v1", "http://[fe80::1]/v1", "http://localhost./v1",
]  # fmt: skip


@pytest.mark.parametrize("stranger", STRANGERS)
def test_nobody_is_asked_whom_the_environment_does_not_name(stranger, monkeypatch):
    monkeypatch.setenv(api_key.KEY_VARIABLE, CANARY)
    with pytest.raises(ValueError, match=rf"not this machine.*{api_key.HOSTS_VARIABLE}") as caught:
        Endpoint(stranger, "m")
    assert CANARY not in str(caught.value)
    assert api_key.key_for(stranger) is None


def test_this_machine_and_the_hosts_that_the_environment_names_are_asked(monkeypatch):
    monkeypatch.setenv(api_key.KEY_VARIABLE, CANARY)
    assert api_key.key_for("http://localhost:1234/v1") == CANARY
    assert api_key.key_for("http://[::1]:1234/v1") == CANARY
    monkeypatch.setenv(api_key.HOSTS_VARIABLE, "other.org, API.example.org")
    assert api_key.key_for("https://api.example.org/v1") == CANARY
    assert Endpoint("https://api.example.org/v1", "m").url == "https://api.example.org/v1/chat/completions"
    for stranger in ("https://evil.api.example.org/v1", "https://api.example.org.evil.org/v1"):
        assert api_key.key_for(stranger) is None
        with pytest.raises(ValueError, match="not this machine"):
            Endpoint(stranger, "m")


def test_the_address_that_was_checked_is_the_one_that_is_asked():
    """urlsplit leaves tabs and line breaks out; what a client would make of them does not matter."""
    assert Endpoint("http://local\thost:11434/v\n1", "m").url == "http://localhost:11434/v1/chat/completions"


def test_a_key_that_would_break_the_header_is_refused_and_not_repeated(monkeypatch):
    monkeypatch.setenv(api_key.KEY_VARIABLE, f"{CANARY}\r\nX-Other: 1")
    with pytest.raises(JudgeError, match=api_key.KEY_VARIABLE) as caught:
        Endpoint("http://localhost:1/v1", "m").ask([comparison(QUESTION, FIRST, SECOND)], poll)
    assert CANARY not in str(caught.value)


@pytest.mark.host
def test_the_node_has_no_input_for_a_key(host):
    import nodes

    inputs = nodes.NODE_CLASS_MAPPINGS["EditJudgeEndpoint"].INPUT_TYPES()
    names = {name for group in ("required", "optional") for name in inputs.get(group, {})}
    assert names == {"base_url", "model", "checks", "swap_order", "timeout", "parallel", "pictures"} | {
        "style", "votes", "wording",
    }  # fmt: skip
