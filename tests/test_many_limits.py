"""Servers that accept work and do nothing, and servers that fail everything: neither holds up a run for ever."""

import asyncio
import json

import aiohttp
import pytest
from icedit.headless.errors import ComfyError, HangingError
from icedit.headless.many import limits, servers
from icedit.headless.many.limits import FailuresInARow, SignsOfLife, TimeLimit, unless_it_hangs
from support.many import edit_on, lines_of, made_once, manifest_of
from support.proxy import proxy_to

STUCK = "11111111-1111-1111-1111-111111111111"
SICK = {"error": {"message": "CUDA error: unspecified launch failure"}, "node_errors": {}}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(servers, "PAUSES", (0.2,))
    monkeypatch.setattr(limits, "LOOK_SECONDS", 0.05)


def hangs(request):
    """Accepts a prompt, and has it in its queue from then on."""
    if request.path == "/prompt":
        return aiohttp.web.json_response({"prompt_id": STUCK})
    if request.path == "/queue":
        return aiohttp.web.json_response({"queue_running": [[0, STUCK]], "queue_pending": []})
    return None


@pytest.mark.server
def test_the_work_of_a_server_that_hangs_goes_to_others(server, tmp_path, monkeypatch):
    # So many times the slowest edit, however slow this machine is at the moment.
    monkeypatch.setattr(limits, "LEAST_SECONDS", 1.0)
    monkeypatch.setattr(limits, "TIMES_THE_SLOWEST", 5.0)

    async def go():
        async with proxy_to(server.url) as one, proxy_to(server.url) as two:
            two.instead = hangs
            return await edit_on(manifest_of(tmp_path, 6), [one.url, two.url])

    one, two = asyncio.run(go())
    made_once(tmp_path / "out", 6)
    assert one.made == 6 and two.made == 0 and two.lost == 2 and two.hung, "it is not asked again while it hangs"


@pytest.mark.server
def test_the_one_server_that_hangs_ends_the_run(server, tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "GIVE_UP_SECONDS", 0.3)

    async def go():
        async with proxy_to(server.url) as one:
            one.instead = hangs
            await edit_on(manifest_of(tmp_path, 6), [one.url], limit=0.5)

    with pytest.raises(ComfyError, match="No server has answered or got on with its work"):
        asyncio.run(go())
    assert not (tmp_path / "out" / "results.jsonl").exists(), "nothing is counted as failed for it"


@pytest.mark.server
def test_a_sick_server_ends_the_run_instead_of_failing_every_edit(server, tmp_path):
    path = manifest_of(tmp_path, 6)

    async def go():
        async with proxy_to(server.url) as one:
            one.instead = lambda request: (
                aiohttp.web.json_response(SICK, status=400) if request.path == "/prompt" else None
            )
            await edit_on(path, [one.url], stop_after=3)

    with pytest.raises(ComfyError, match=r"last 3 edits all failed for the same reason.*CUDA.*\n.*--retry-failed"):
        asyncio.run(go())
    assert 3 <= len(lines_of(tmp_path / "out")) <= 4
    asyncio.run(edit_on(path, [server.url], retry_failed=True))
    made_once(tmp_path / "out", 6)


@pytest.mark.server
def test_pictures_that_cannot_be_read_say_nothing_about_a_server(server, tmp_path):
    path = manifest_of(tmp_path, 4)
    (tmp_path / "b.png").unlink()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in sorted(rows, key=lambda row: row["picture"])[::-1]))
    asyncio.run(edit_on(path, [server.url], stop_after=1))
    assert sorted(line["status"] for line in lines_of(tmp_path / "out")) == ["failed", "failed", "ok", "ok"]


class Elsewhere:
    """A client of a server that runs others' prompts, so many times that it is asked."""

    address = "http://a"
    prompts = frozenset({"own"})

    def __init__(self, times):
        self.times = times

    async def queue(self):
        self.times -= 1
        return ["another's"] if self.times >= 0 else ["own"], ["own"]


def test_a_server_that_works_for_others_is_waited_for():
    client = Elsewhere(3)
    with pytest.raises(HangingError, match=r"http://a has work, but ended neither .* --time-limit"):
        asyncio.run(unless_it_hangs(asyncio.Event().wait(), client, SignsOfLife(), TimeLimit(0.1)))
    assert client.times == -1


def test_steps_are_signs_of_life_and_the_same_one_again_is_none():
    life = SignsOfLife(last=0.0)
    life.went_on(1, "step 1")
    begin = life.last
    assert begin > 0.0
    life.went_on(1, "step 1")
    assert life.last == begin
    life.went_on(2, "step 1")
    assert life.last > begin


def test_the_limit_follows_from_the_slowest_edit():
    limit = TimeLimit()
    assert limit.seconds == limits.FIRST_SECONDS
    limit.add(2.0)
    assert limit.seconds == limits.LEAST_SECONDS
    limit.add(200.0)
    limit.add(1.0)
    assert limit.seconds == 2000.0
    assert TimeLimit(0.0).seconds is None and TimeLimit(5.0, slowest=200.0).seconds == 5.0


def test_reasons_are_the_same_but_for_figures():
    row = FailuresInARow(3)
    for reason in ("no room: 5 MB", "no room: 6 MB", "dark", "dark"):
        row.failed(reason)
    row.made()
    for name in range(5):
        row.failed(f"cannot identify image file '{name}.png'")
    for _ in range(2):
        row.failed("no room: 7 MB")
    with pytest.raises(ComfyError, match="The last 3 edits"):
        row.failed("no room: 8 MB")
    never = FailuresInARow(0)
    for _ in range(50):
        never.failed("dark")
