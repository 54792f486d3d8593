"""Many edits with the mini models on embedded servers: by how much several are faster than one, and what survives.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/many.py [--edits 400] [--ways one two ...] [--ray-python FILE]
        [--folder FOLDER]

Each way makes the same edits in a folder of its own and prints one JSON line; every server has one thread.

queued  one server that has all pictures and prompts from the start: what it takes itself from one edit to the next
one     one server; all others are compared with it: `equal` counts the pictures that are the same in every pixel
two     two servers
killed  two servers, one of which is killed every SECONDS and started again after half of them
client  two servers; the client is killed at ten random moments and started again
ray     two actors of local Ray, each with a server of its own; --ray-python names a Python with ray
actors  the same, and every SECONDS an actor is killed

`overhead` is the part of the time from the first result to the last in which the servers, by their own histories, did
not work.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from in_process import PACK, load_pack

if TYPE_CHECKING:
    from icedit.private_host.server import Server

MINI_SETS = (
    "UNETLoader.unet_name=mini_fill.safetensors", "DualCLIPLoader.clip_name1=mini_clip_l.safetensors",
    "DualCLIPLoader.clip_name2=mini_t5.safetensors", "VAELoader.vae_name=mini_ae.safetensors",
    "LoraLoaderModelOnly.lora_name=mini_lora.safetensors", "DiptychCreate.panel_width=128",
)  # fmt: skip


class Pool:
    """Embedded servers on ports of their own, which can be killed and started again at the same address."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.servers: list[Server] = []

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add_up_to(self, count: int) -> None:
        from icedit.private_host.environment import Environment
        from icedit.private_host.server import running_server

        environment = Environment(Path(sys.executable), Path(os.environ["ICEDIT_HOST"]))
        while len(self.servers) < count:
            server = running_server(environment, PACK / "mini" / "models", ("--cpu",))
            self.servers.append(self._stack.enter_context(server))

    def restart(self, number: int, pause: float) -> bool:
        """Kill a server, and start its command again after a pause; only where all are there, or none would ever be."""
        if not all(_answers(server.url) for server in self.servers):
            return False
        server = self.servers[number]
        server.process.kill()
        server.process.wait()
        time.sleep(pause)
        with open(server.log_file, "ab") as output:
            again = subprocess.Popen(
                server.process.args, cwd=server.folder, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
            )
        self._stack.callback(again.kill)
        self.servers[number] = type(server)(server.url, server.folder, server.log_file, again)
        return True


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/queue", timeout=5):
            return True
    except OSError:
        return False


def write_manifest(folder: Path, edits: int) -> Path:
    """Drawings with an instruction and a seed each."""
    from icedit.mini.edits import random_edit
    from icedit.mini.render import render
    from PIL import Image

    draw, rows = random.Random(18), list[dict[str, Any]]()
    for number in range(edits):
        edit = random_edit(draw)
        pixels = (render(edit.before).movedim(0, -1) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append({"id": str(number), "picture": f"{number}.png", "instruction": edit.instruction, "seed": number})
    path = folder / "edits.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@dataclass
class Client:
    """The command line, in a process of its own."""

    manifest: Path
    output: Path
    python: str = sys.executable
    servers: Sequence[str] = ()
    sets: Sequence[str] = ()

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        given = ["--manifest", str(self.manifest), "--output", str(self.output), *more]
        given += ["--server", *self.servers] if self.servers else []
        # A server of its own gets the mini models by itself.
        given += [part for one in (*self.sets, *(MINI_SETS if self.servers else ())) for part in ("--set", one)]
        command, nowhere = [self.python, "-m", "headless", *given], subprocess.DEVNULL
        return subprocess.Popen(command, cwd=PACK, stdout=nowhere, stderr=nowhere)

    def run(self, *more: str, disturb: Callable[[subprocess.Popen[bytes]], None] | None = None) -> int:
        """Until it ends; meanwhile `disturb` is called again and again. Its exit status."""
        process = self.start(*more)
        while process.poll() is None:
            if disturb is None:
                process.wait()
            else:
                disturb(process)
        return process.returncode

    def lines(self) -> list[dict[str, Any]]:
        path = self.output / "results.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Every:
    """Calls something every so many seconds, from the first edit on that is made; again soon where it returns False."""

    def __init__(self, client: Client, seconds: float, what: Callable[[subprocess.Popen[bytes]], bool]) -> None:
        self._client, self._seconds, self._what = client, seconds, what
        self._next: float | None = None
        self.calls = 0

    def __call__(self, process: subprocess.Popen[bytes]) -> None:
        time.sleep(0.2)
        now = time.monotonic()
        if self._next is None and self._client.lines():
            self._next = now + self._seconds
        elif self._next is not None and now >= self._next and process.poll() is None and self._what(process):
            self.calls, self._next = self.calls + 1, time.monotonic() + self._seconds


def kill_actor(driver: subprocess.Popen[bytes]) -> bool:
    import psutil

    found = psutil.Process(driver.pid).children(recursive=True)
    actors = [process for process in found if "MapWorker" in " ".join(process.cmdline())]
    if actors:
        random.choice(actors).kill()
    return bool(actors)


def killed_clients(client: Client, times: int, seconds: float) -> int:
    """Kill the client at random moments and start it again, then let it end; its exit status."""
    draw = random.Random(times)
    for _ in range(times):
        process = client.start()
        # Its start takes a second.
        time.sleep(1.0 + draw.uniform(0.0, seconds))
        process.send_signal(signal.SIGKILL)
        process.wait()
    return client.run()


async def queued(manifest: Path, url: str, sets: Sequence[str]) -> dict[str, Any]:
    """All edits of a manifest, queued before the first is made; no result is fetched."""
    from icedit.headless.client import ComfyClient
    from icedit.headless.job import DEFAULT_WORKFLOW
    from icedit.headless.many.manifest import Problems, read_manifest
    from icedit.headless.many.plan import ManifestSettings, make_plan

    read = read_manifest(manifest, (), Problems())
    plan = make_plan(read, ManifestSettings(str(DEFAULT_WORKFLOW), False, sets=(*sets, *MINI_SETS)), Problems())
    ended = list[tuple[float, float]]()
    async with ComfyClient(url, "temp") as client:

        async def make(row: Any) -> None:
            picture = await client.upload(row.picture, (manifest.parent / row.picture).read_bytes())
            found = await client.run(plan.filled(row, picture, None))
            ended.append((time.monotonic(), found.seconds or 0.0))

        await asyncio.gather(*map(make, read.rows))
    passed = ended[-1][0] - ended[0][0]
    worked = sum(seconds for _, seconds in ended[1:])
    return {"made": len(ended), "first_to_last": round(passed, 1), "overhead": round(1 - worked / passed, 4)}


def summary(client: Client, edits: int, servers: int, seconds: float, first: Client | None) -> dict[str, Any]:
    from PIL import Image, ImageChops

    lines = client.lines()
    made = sorted((client.output / line["file"]).stat().st_mtime for line in lines if line["file"])
    # From the first result to the last: without the starts of the client, of Ray, and of the models.
    passed = made[-1] - made[0]
    worked = sum(line["seconds"] for line in lines) * (1 - servers / edits)
    equal = 0
    for line in (line for line in lines if line["file"]):
        places = (client.output / line["file"], (first or client).output / line["file"])
        own, other = (Image.open(place) for place in places)
        equal += ImageChops.difference(own.convert("RGB"), other.convert("RGB")).getbbox() is None
    return {
        "lines": len(lines),
        "ids": len({line["id"] for line in lines}),
        "made": len(made),
        "equal": equal,
        "seconds": round(seconds, 1),
        "first_to_last": round(passed, 1),
        "edits_a_second": round((edits - 1) / passed, 3),
        "server_seconds_per_edit": round(worked / edits, 3),
        "overhead": round(1 - worked / servers / passed, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--edits", type=int, default=400)
    parser.add_argument("--ways", nargs="+", default=["one", "two", "killed", "client"])
    parser.add_argument("--steps", type=int, default=28, help="of the sampler, for each edit")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two kills")
    parser.add_argument("--ray-python", default=sys.executable)
    parser.add_argument("--folder", type=Path, help="where results stay; its `one` is compared with, if it has that")
    options = parser.parse_args()
    load_pack()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name, Pool() as pool:
        folder = options.folder or Path(name)
        manifest = write_manifest(folder, options.edits)
        first = Client(manifest, folder / "one") if (folder / "one").exists() else None
        for way in options.ways:
            client = Client(manifest, folder / way, sets=[f"KSampler.steps={options.steps}"])
            if way == "queued":
                pool.add_up_to(1)
                found = asyncio.run(queued(manifest, pool.servers[0].url, client.sets))
                print(json.dumps({"way": way, **found}), flush=True)
                continue
            begin = time.monotonic()
            servers, status, disturbed = run(way, client, pool, options)
            seconds = time.monotonic() - begin
            found = summary(client, options.edits, servers, seconds, first)
            print(json.dumps({"way": way, "exit": status, "kills": disturbed, **found}), flush=True)
            first = first or client


def run(way: str, client: Client, pool: Pool, options: argparse.Namespace) -> tuple[int, int, int]:
    """How many servers worked, the client's exit status, how often something was killed."""
    if way in ("ray", "actors"):
        client.python = options.ray_python
        every = Every(client, options.every, kill_actor) if way == "actors" else None
        status = client.run("--ray", "--actors", "2", disturb=every)
        return 2, status, every.calls if every else 0
    count = 1 if way == "one" else 2
    pool.add_up_to(count)
    client.servers = [server.url for server in pool.servers[:count]]
    if way == "client":
        return 2, killed_clients(client, 10, 8.0), 10
    if way == "killed":
        every = Every(client, options.every, lambda _: pool.restart(random.randrange(count), options.every / 2))
        return 2, client.run(disturb=every), every.calls
    return count, client.run(), 0


if __name__ == "__main__":
    main()
