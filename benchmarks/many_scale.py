"""A manifest on 1 to 64 simulated servers: how well they are kept busy, and what an edit costs the client.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/many_scale.py [--servers 1 4 16 64] [--each 60] [--seconds 1]

The servers are stand-ins in a process of their own, which answer like ComfyUI and take SECONDS for each edit, one after
the other. EACH edits are made per server. Prints one JSON line per number of servers: `efficiency` is the time that the
edits take at least over the time that they took, `client_cpu_ms` the client's processor time per edit, `memory_mb` its
resident memory after each tenth of the edits, `growth` from the middle to the last tenth: aiohttp keeps what a closed
socket had for half a minute.
"""

import argparse
import asyncio
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import statistics
import tempfile
import time
import uuid
from collections import deque
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import web
from in_process import PACK, load_pack

PICTURE = PACK / "mini" / "example.png"


class StandIn:
    """One simulated server."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pending: deque[tuple[str, str, str]] = deque()
        self._running: list[str] = []
        self._history: dict[str, Any] = {}
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._more = asyncio.Event()
        self._content = PICTURE.read_bytes()

    async def start(self) -> str:
        application = web.Application(client_max_size=2**30)
        application.add_routes(
            [
                web.get("/ws", self._socket), web.get("/queue", self._queue), web.post("/prompt", self._prompt),
                web.post("/upload/image", self._upload), web.get("/view", self._view),
                web.get("/history/{prompt}", self._past), web.post("/{path:.*}", self._anything),
            ]
        )  # fmt: skip
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._worker = asyncio.create_task(self._work())
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _work(self) -> None:
        while True:
            while not self._pending:
                self._more.clear()
                await self._more.wait()
            prompt, listener, saver = self._pending.popleft()
            self._running = [prompt]
            begin = int(time.time() * 1000)
            await asyncio.sleep(self._seconds)
            self._running = []
            ends = [["execution_start", {"timestamp": begin}], ["execution_success", {"timestamp": time.time() * 1000}]]
            image = {"filename": "picture.png", "subfolder": "", "type": "output"}
            self._history[prompt] = {"outputs": {saver: {"images": [image]}}, "status": {"messages": ends}}
            socket = self._sockets.get(listener)
            if socket is not None and not socket.closed:
                await socket.send_json({"type": "execution_success", "data": {"prompt_id": prompt}})

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        listener = request.query["clientId"]
        self._sockets[listener] = socket
        async for _ in socket:
            pass
        del self._sockets[listener]
        return socket

    async def _queue(self, _: web.Request) -> web.Response:
        waiting = [prompt for prompt, *_ in self._pending]
        running, pending = ([[0, prompt] for prompt in part] for part in (self._running, waiting))
        return web.json_response({"queue_running": running, "queue_pending": pending})

    async def _prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        saver = next(key for key, node in body["prompt"].items() if node["class_type"] == "SaveImage")
        self._pending.append((body["prompt_id"], body["client_id"], saver))
        self._more.set()
        return web.json_response({"prompt_id": body["prompt_id"]})

    async def _upload(self, request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"name": f"{uuid.uuid4().hex}.png", "subfolder": "", "type": "temp"})

    async def _past(self, request: web.Request) -> web.Response:
        prompt = request.match_info["prompt"]
        return web.json_response({prompt: self._history.pop(prompt)} if prompt in self._history else {})

    async def _view(self, _: web.Request) -> web.Response:
        return web.Response(body=self._content, content_type="image/png")

    async def _anything(self, _: web.Request) -> web.Response:
        return web.json_response({})


def stand_ins(count: int, seconds: float, tell: multiprocessing.connection.Connection) -> None:
    """Serve until the process is ended; the addresses go to `tell`."""

    async def serve() -> None:
        tell.send([await StandIn(seconds).start() for _ in range(count)])
        await asyncio.Event().wait()

    asyncio.run(serve())


async def make_all(urls: list[str], edits: int, folder: Path) -> dict[str, Any]:
    import psutil
    from icedit.headless.client import ComfyClient
    from icedit.headless.many.limits import SAME_REASON, FailuresInARow, TimeLimit
    from icedit.headless.many.manifest import Manifest, ManifestRow, Problems
    from icedit.headless.many.plan import ManifestSettings, make_plan
    from icedit.headless.many.results import opened_results
    from icedit.headless.many.run import ManifestRun
    from icedit.headless.many.servers import ServersRun

    rows = tuple(ManifestRow(str(number), PICTURE.name, "make it blue", number) for number in range(edits))
    manifest = Manifest(PICTURE.parent, rows)
    plan = make_plan(manifest, ManifestSettings(str(PACK / "workflows" / "api" / "icedit.json"), False), Problems())
    process, memory = psutil.Process(), list[int]()
    with opened_results(folder, {}, rows, False) as results:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(ComfyClient(url, "temp")) for url in urls]
            run = ManifestRun(manifest, plan, results)
            start, cpu = time.perf_counter(), time.process_time()
            limits = TimeLimit(), FailuresInARow(SAME_REASON)
            await ServersRun(clients, run, lambda _: memory.append(process.memory_info().rss), *limits).make_all()
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        assert run.all_made
    tenth = max(1, edits // 10)
    early, late = statistics.median(memory[5 * tenth : 6 * tenth]), statistics.median(memory[-tenth:])
    return {
        "edits": edits,
        "seconds": round(seconds, 1),
        "client_cpu_ms": round(1000 * cpu / edits, 2),
        "memory_mb": [round(memory[min(edits - 1, part * edits // 10)] / 1e6, 1) for part in range(11)],
        "growth": round(late / early - 1, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--each", type=int, default=60, help="edits per server")
    parser.add_argument("--seconds", type=float, default=1.0, help="that a server takes for an edit")
    options = parser.parse_args()
    load_pack()
    logging.disable(logging.WARNING)
    for count in options.servers:
        told, tell = multiprocessing.Pipe(False)
        process = multiprocessing.get_context("spawn").Process(
            target=stand_ins, args=(count, options.seconds, tell), daemon=True
        )
        process.start()
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            found = asyncio.run(make_all(told.recv(), count * options.each, Path(folder)))
        process.terminate()
        process.join()
        efficiency = options.each * options.seconds / found["seconds"]
        print(json.dumps({"servers": count, "efficiency": round(efficiency, 3), **found}), flush=True)


if __name__ == "__main__":
    main()
