"""A manifest on real servers that fail: nothing is lost, nothing done twice, and the pictures are those of one run."""

import asyncio
import io
import os
import random
import signal
import subprocess
import sys
import time

import aiohttp
import numpy as np
import pytest
from icedit.headless.cli import main
from icedit.headless.errors import ComfyError
from icedit.headless.many import servers
from PIL import Image
from support.many import arguments, edit_on, known, lines_of, made_once, manifest_of
from support.processes import heed_ctrl_c
from support.proxy import proxy_to
from support.workflows import PACK

pytestmark = [pytest.mark.server, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(servers, "PAUSES", (0.2,))


def pixels(path):
    return np.array(Image.open(path))


def test_several_servers_make_what_one_makes(server, tmp_path):
    async def go():
        async with proxy_to(server.url) as one, proxy_to(server.url) as two:
            return await edit_on(manifest_of(tmp_path, 6), [one.url, two.url])

    states = asyncio.run(go())
    lines = made_once(tmp_path / "out", 6)
    assert all(state.made for state in states)
    assert all(line["seconds"] > 0 and line["seed"] == int(line["id"]) for line in lines)
    alone = tmp_path / "alone"
    alone.mkdir()
    assert main(arguments(manifest_of(alone, 6), server.url)) == 0
    for number in range(6):
        assert (pixels(tmp_path / "out" / f"{number}.png") == pixels(alone / "out" / f"{number}.png")).all()
    left_behind = list((server.folder / "input").rglob("icedit-*"))
    assert not [path for path in left_behind if path.stat().st_mtime > (tmp_path / "edits.jsonl").stat().st_mtime]


def test_the_work_of_a_server_that_is_lost_goes_to_others_until_it_is_back(server, tmp_path):
    async def go():
        async with proxy_to(server.url) as one, proxy_to(server.url) as two:

            async def disturb(done):
                await done.wait()
                two.down = "no answer"
                two.cut()
                while "/queue" not in two.requests[-1:]:
                    await asyncio.sleep(0.05)
                two.requests.clear()
                await asyncio.sleep(0.5)
                two.down = None

            return await edit_on(manifest_of(tmp_path, 12), [one.url, two.url], disturb)

    one, two = asyncio.run(go())
    made_once(tmp_path / "out", 12)
    assert one.made + two.made == 12 and two.lost > 0


def test_a_server_that_fails_what_others_make_is_left_out(server, tmp_path):
    sick = {"error": {"message": "CUDA error: unspecified launch failure"}, "node_errors": {}}

    async def go():
        async with proxy_to(server.url) as one, proxy_to(server.url) as two:
            two.instead = lambda request: (
                aiohttp.web.json_response(sick, status=400) if request.path == "/prompt" else None
            )
            return await edit_on(manifest_of(tmp_path, 8), [one.url, two.url])

    one, two = asyncio.run(go())
    made_once(tmp_path / "out", 8)
    assert one.made == 8 and two.made == two.failed == 0


def test_without_any_server_the_run_ends_and_keeps_what_is_made(server, tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "GIVE_UP_SECONDS", 0.5)

    async def go():
        async with proxy_to(server.url) as one:

            async def disturb(done):
                await done.wait()
                one.down = "gateway"
                one.cut()

            await edit_on(manifest_of(tmp_path, 6), [one.url], disturb)

    with pytest.raises(ComfyError, match=r"No server has answered .* run the same command again"):
        asyncio.run(go())
    made = {line["id"] for line in lines_of(tmp_path / "out")}
    assert 0 < len(made) < 6
    asyncio.run(edit_on(tmp_path / "edits.jsonl", [server.url]))
    made_once(tmp_path / "out", 6)


def test_the_command_line_goes_on_after_pictures_that_cannot_be_read(server, tmp_path, capsys):
    path = manifest_of(tmp_path, 3)
    (tmp_path / "b.png").rename(tmp_path / "later.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    assert main(arguments(path, server.url)) == 1
    assert "3 edits: 2 made, 1 failed." in capsys.readouterr().out
    (failed,) = [line for line in lines_of(tmp_path / "out") if line["status"] == "failed"]
    assert failed["id"] == "1" and failed["error"] and failed["file"] is None
    assert main(arguments(path, "http://127.0.0.1:9")) == 1, "nothing is left to do, so no server is asked"
    os.replace(tmp_path / "later.png", tmp_path / "b.png")
    assert main([*arguments(path, server.url), "--retry-failed"]) == 0
    assert "3 edits: 3 made, 0 failed." in capsys.readouterr().out
    made_once(tmp_path / "out", 3)


def test_inputs_that_no_node_has_are_refused_before_the_work(server, tmp_path, capsys):
    path = manifest_of(tmp_path, 2, **{"set.KSampler.stepz": 4})
    assert main(arguments(path, server.url)) == 2
    said = capsys.readouterr()
    assert "The row '0' sets KSampler.stepz. The node's inputs on the server: model, seed, steps" in said.err
    assert "2 left" in said.out


def test_a_server_that_is_not_there_at_the_start(server, tmp_path, capsys):
    path = manifest_of(tmp_path, 2)
    assert main(arguments(path, "http://127.0.0.1:9")) == 1
    assert "The connection to http://127.0.0.1:9 failed" in capsys.readouterr().err
    assert main(arguments(path, "http://127.0.0.1:9", server.url)) == 0
    made_once(tmp_path / "out", 2)


@pytest.mark.parametrize("how", ["killed", "ctrl-c"])
def test_a_client_that_ends_at_any_moment_is_taken_up(server, tmp_path, how):
    path, count = manifest_of(tmp_path, 8), 8
    given = arguments(path, server.url)
    # A moment after the first line that is new, which is anywhere in another edit.
    moments = random.Random(how)
    for _ in range(2 if how == "killed" else 1):
        before = known(tmp_path / "out")
        process = subprocess.Popen(
            [sys.executable, "-m", "headless", *given], cwd=PACK, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, preexec_fn=heed_ctrl_c,
        )  # fmt: skip
        while process.poll() is None and known(tmp_path / "out") == before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGINT)
        said, _ = process.communicate()
        if how == "ctrl-c" and process.returncode:
            assert process.returncode == 130 and "left" in said
    assert main(given) == 0
    made_once(tmp_path / "out", count)
    for number in range(count):
        Image.open(io.BytesIO((tmp_path / "out" / f"{number}.png").read_bytes())).load()
