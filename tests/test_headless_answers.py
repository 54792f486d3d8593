"""A client that trusts nothing that a server says, and loses nothing of what it made."""

import asyncio
import json
import shutil

import pytest
from aiohttp import web
from icedit.headless.batch import Edit, run_edits
from icedit.headless.client import ComfyClient, ComfyError
from icedit.headless.job import PHOTOGRAPH
from icedit.headless.workflow import load_workflow, with_picture, with_seed, with_value
from support.proxy import proxy_to
from support.workflows import WORKFLOWS

pytestmark = [pytest.mark.server, pytest.mark.timeout(120)]

PATIENCE = 60
FRAMES = (
    "no JSON",
    "",
    "[" * 100_000,
    "[1]",
    "7",
    "null",
    '"text"',
    "{}",
    '{"type": null, "data": {}}',
    '{"type": ["progress"], "data": {"prompt_id": "ID"}}',
    '{"type": "status", "data": {"status": "busy"}}',
    '{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": "many"}}}}',
    '{"type": "progress", "data": {"prompt_id": "ID"}}',
    '{"type": "progress", "data": {"prompt_id": "ID", "value": "1", "max": null}}',
    '{"type": "progress", "data": {"prompt_id": "ID", "value": NaN, "max": Infinity}}',
    '{"type": "progress_in_a_new_way", "data": {"prompt_id": "ID", "value": {}}}',
)


def steps(number, seed=0):
    """No other workflow of the session's, whose results the server would remember."""
    workflow = load_workflow(WORKFLOWS / "api" / "icedit.json")
    workflow = with_value(with_seed(workflow, 5000 * number + seed), "DiptychCreate.panel_width=64")
    return with_value(workflow, f"KSampler.steps={number}")


def edits(server, tmp_path, instead=lambda _: None, workflow=None, words=("x",), picture=PHOTOGRAPH):
    """What becomes of edits behind a gateway, and the gateway."""

    async def go():
        async with proxy_to(server.url) as proxy:
            proxy.instead = instead
            made = [Edit(picture, word) for word in words]
            return await run_edits(proxy.url, workflow or steps(1), made, tmp_path / "out"), proxy

    return asyncio.run(go())


class TestFrames:
    def test_what_is_no_message_ends_nothing(self, server, tmp_path):
        async def go():
            async with proxy_to(server.url) as proxy:
                made = [Edit(PHOTOGRAPH, word) for word in ("a", "b")]
                task = asyncio.create_task(run_edits(proxy.url, steps(100, 1), made, tmp_path))
                prompt_id = await proxy.running()
                for frame in FRAMES:
                    await proxy.say(frame.replace("ID", prompt_id))
                return await task

        outcomes = asyncio.run(go())
        assert [outcome.error for outcome in outcomes] == [None, None]

    def test_a_failure_of_another_shape_is_still_a_failure(self, server):
        async def go():
            async with proxy_to(server.url) as proxy, ComfyClient(proxy.url) as client:
                name = await client.upload_picture(PHOTOGRAPH)
                task = asyncio.create_task(client.run(with_picture(steps(10000, 1), name)))
                prompt_id = await proxy.running()
                await proxy.say(json.dumps({"type": "execution_error", "data": {"prompt_id": prompt_id}}))
                try:
                    await task
                finally:
                    await proxy.post("/interrupt", {})

        with pytest.raises(ComfyError, match="The server failed in node None"):
            asyncio.run(go())


def says(path, answer):
    return lambda request: web.json_response(answer) if request.path.startswith(path) else None


class TestAnswers:
    @pytest.mark.parametrize("answer", [{}, {"name": 7}, {"name": "a.png", "subfolder": ["x"]}])
    def test_an_upload(self, server, tmp_path, answer):
        outcomes, proxy = edits(server, tmp_path, says("/upload/image", answer), words=("a", "b"))
        assert all("does not answer /upload/image like a ComfyUI server" in (one.error or "") for one in outcomes)
        assert proxy.requests.count("/upload/image") == 2

    @pytest.mark.parametrize("answer", [{}, {"prompt_id": None}])
    def test_a_prompt(self, server, tmp_path, answer):
        ((outcome,), _) = edits(server, tmp_path, says("/prompt", answer))
        assert "does not answer /prompt like a ComfyUI server" in (outcome.error or "")

    @pytest.mark.parametrize("answer", [{"error": 5}, {"error": {"message": None}, "node_errors": {"1": [], "2": 1}}])
    def test_a_refusal(self, server, tmp_path, answer):
        def refuse(request):
            return web.json_response(answer, status=400) if request.path == "/prompt" else None

        ((outcome,), _) = edits(server, tmp_path, refuse)
        assert outcome.error

    @pytest.mark.parametrize("answer", [{}, {"queue_running": 3, "queue_pending": None}])
    def test_a_queue(self, server, tmp_path, answer):
        ((outcome,), _) = edits(server, tmp_path, says("/queue", answer))
        assert "does not answer /queue like a ComfyUI server" in (outcome.error or "")

    @pytest.mark.parametrize(
        "entry",
        [
            {},
            {"status": 3, "outputs": []},
            {"status": {"messages": [[], 7, ["execution_start"]]}, "outputs": {"11": {"images": ["a.png", {}, 3]}}},
            {"outputs": {"11": []}},
        ],
    )
    def test_an_entry_of_the_history(self, server, tmp_path, entry):
        def history(request):
            prompt_id = request.path.rpartition("/")[2]
            return web.json_response({prompt_id: entry}) if request.path.startswith("/history/") else None

        ((outcome,), _) = edits(server, tmp_path, history)
        assert "saved no picture" in (outcome.error or "")

    def test_the_inputs_of_a_class(self, server):
        async def go(answer):
            async with proxy_to(server.url) as proxy, ComfyClient(proxy.url) as client:
                proxy.instead = says("/object_info/", answer)
                return await client.input_names("X")

        for answer in ({"X": []}, {"X": {"input": 3}}, {"X": {"input": {"required": ["a"]}}}):
            assert asyncio.run(go(answer)) == []

    def test_more_than_any_answer_is(self, server, tmp_path, monkeypatch):
        monkeypatch.setattr("icedit.headless.connection.FILE_BYTES", 1000)
        ((outcome,), _) = edits(server, tmp_path)
        assert "answers /view with more than" in (outcome.error or "")

    def test_an_empty_file(self, server, tmp_path):
        def nothing(request):
            return web.Response() if request.path == "/view" else None

        ((outcome,), _) = edits(server, tmp_path, nothing)
        assert "empty file" in (outcome.error or "")
        assert list((tmp_path / "out").iterdir()) == []


class TestNames:
    @pytest.mark.parametrize(
        ("named", "saved"),
        [
            ("../../evil.png", "astronaut_evil_001.png"),
            ("..\\..\\evil.png", "astronaut_evil_001.png"),
            ("C:evil.png", "astronaut_evil_001.png"),
            ("a\0b:c\x1b[2J.png", "astronaut_a_b_c_[2J_001.png"),
            ("...", "astronaut___001"),
            ("", "astronaut___001"),
            ("x" * 5000 + ".png", f"astronaut_{'x' * 100}_001.png"),
            ("a.png/../b.p/ng", "astronaut_ng_001"),
            ("\udcff.png", "astronaut___001.png"),
        ],
    )
    def test_a_servers_name_leads_nowhere(self, server, tmp_path, named, saved):
        def instead(request):
            prompt_id = request.path.rpartition("/")[2]
            if request.path.startswith("/history/"):
                return web.json_response({prompt_id: {"outputs": {"11": {"images": [{"filename": named}]}}}})
            return web.Response(body=b"picture") if request.path == "/view" else None

        workflow = steps(1)
        ((outcome,), _) = edits(server, tmp_path, instead, workflow)
        assert outcome.error is None
        assert [file.name for file in outcome.files] == [saved]
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [saved]

    @pytest.mark.parametrize(
        "name", ['a"b.jpg', "a\nb.jpg", "a\\b.jpg", "\udcff.jpg", "\N{CAT} \N{KEY}é.jpg", "a%41.jpg"]
    )
    def test_a_picture_of_any_name_is_sent(self, server, tmp_path, name):
        picture = tmp_path / name
        try:
            picture.write_bytes(PHOTOGRAPH.read_bytes())
        except (OSError, ValueError):
            pytest.skip("this system has no such names")
        ((outcome,), _) = edits(server, tmp_path, picture=picture)
        assert outcome.error is None


class TestLostFiles:
    def remembered(self, server, tmp_path, seed, delete):
        """Edits that the server has done before, and whose files are deleted there."""
        # Of a picture that is uploaded again nothing is remembered: it gets another name.
        shutil.copy(PHOTOGRAPH, server.folder / "input" / "remembered.jpg")
        workflow = with_value(steps(2, seed), "DiptychCreate.image=remembered.jpg")
        ((first,), _) = edits(server, tmp_path / "first", workflow=workflow, picture=None)
        assert first.error is None
        for path in server.output.rglob("*.png"):
            if delete(path.name):
                path.unlink()
        ((second,), proxy) = edits(server, tmp_path / "second", workflow=workflow, picture=None)
        assert second.error is None
        return first.files, second.files, proxy.requests.count("/prompt")

    def test_run_again(self, server, tmp_path):
        first, second, prompts = self.remembered(server, tmp_path, 1, lambda name: name.startswith("icedit"))
        assert prompts == 2
        assert [file.name for file in second] == [file.name for file in first]
        assert [self.pixels(file) for file in second] == [self.pixels(file) for file in first]

    def test_what_is_there_is_saved_once(self, server, tmp_path):
        first, second, prompts = self.remembered(server, tmp_path, 2, lambda name: "before_after" in name)
        assert prompts == 2
        assert sorted(file.name for file in second) == sorted(file.name for file in first)

    def test_what_is_still_there_is_not_run_again(self, server, tmp_path):
        assert self.remembered(server, tmp_path, 3, lambda _: False)[2] == 1

    def test_only_once(self, server, tmp_path):
        def gone(request):
            return web.Response(status=404) if request.path == "/view" else None

        (outcomes, proxy) = edits(server, tmp_path, gone, words=("a",))
        assert "just saved (HTTP status 404)" in (outcomes[0].error or "")
        assert proxy.requests.count("/prompt") == 2

    def test_a_moment_without_a_connection_does_not_cost_the_picture(self, server, tmp_path, monkeypatch):
        monkeypatch.setattr("icedit.headless.following.RETRY_SECONDS", (0.05,) * 3)
        asked = []

        def down_at_first(request):
            if request.path != "/view":
                return None
            asked.append(request)
            return web.Response(status=502) if len(asked) < 3 else None

        ((outcome,), _) = edits(server, tmp_path, down_at_first)
        assert outcome.error is None

    def pixels(self, path):
        from PIL import Image

        with Image.open(path) as picture:
            return picture.tobytes()


def test_a_call_that_is_cancelled_while_it_queues_leaves_nothing_behind(server):
    async def go():
        async with proxy_to(server.url) as proxy, ComfyClient(proxy.url) as client:
            name = await client.upload_picture(PHOTOGRAPH)
            ask = client._connection.json
            arrived = asyncio.Event()

            async def slowly(method, path, **arguments):
                answer = await ask(method, path, **arguments)
                if path == "/prompt":
                    arrived.set()
                    await asyncio.sleep(PATIENCE)
                return answer

            client._connection.json = slowly
            task = asyncio.create_task(client.run(with_picture(steps(10000, 9), name)))
            await asyncio.wait_for(arrived.wait(), PATIENCE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while (queue := await proxy.queue())["queue_running"] or queue["queue_pending"]:
                await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(go(), PATIENCE))
