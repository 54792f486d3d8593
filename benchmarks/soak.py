"""Many prompts on one server, some of them bad, some interrupted; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/soak.py

PROMPTS (500) prompts are sent to a real ComfyUI with the tiny models, IN_FLIGHT (6) at a time. Of every ten, seven are
edits by three workflows, two cannot work, and one is interrupted while it samples. Memory is the resident memory of the
server's process: `growth` compares the median of the last tenth with that of the tenth after the first fifth.

STOCK=1 uses only ComfyUI's own nodes, for the same number of edits, to separate the host's memory from this pack's.
FORGET=1 keeps the host from remembering old prompts: its default cache holds a key for every node that ever failed to
run, and its history holds the last 10000 prompts. The server then gets --cache-classic, and its history is cleared
after every tenth of the prompts.
"""

import asyncio
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from in_process import PACK, load_pack

if TYPE_CHECKING:
    from icedit.headless.client import ComfyClient, Workflow
    from icedit.private_host.server import Server

PROMPTS = int(os.environ.get("PROMPTS", "500"))
IN_FLIGHT = int(os.environ.get("IN_FLIGHT", "6"))
STOCK = os.environ.get("STOCK") == "1"
FORGET = os.environ.get("FORGET") == "1"
WARM_UP = 0.2

VALID, INVALID, INTERRUPTED = "valid", "invalid", "interrupted"
SHORT = {
    "DiptychCreate.panel_width": 96, "KSampler.steps": 2, "EarlyFilterSampler.steps": 3,
    "EarlyFilterSampler.candidates": 3, "EarlyFilterSampler.probe_steps": 1, "EarlyFilterSampler.keep": 2,
}  # fmt: skip
WORKFLOWS = ("icedit", "icedit_moe", "icedit_early_filter")

# The workflow, the input and its bad value, and a part of the reason that the server must give.
WRONG: list[tuple[str, str, Any, str]] = [
    ("icedit", "DiptychCreate.image", "../secret.png", "outside ComfyUI's input folder"),
    ("icedit", "InContextEditInstruction.editText", " ", "instruction is empty"),
    ("icedit_moe", "MoELoRALoader.lora_name", "gone.safetensors", "not in list"),
    ("icedit_moe", "MoELoRALoader.top_k", 9, "top_k"),
    ("icedit_early_filter", "EarlyFilterSampler.probe_steps", 4, "only 3 steps"),
    ("icedit_early_filter", "EarlyFilterSampler.steps", 0, "smaller than min"),
    ("icedit", "DiptychCreate.image", "damaged.png", "damaged or incomplete"),
]


@dataclass(frozen=True)
class Job:
    """One prompt and its expected end."""

    kind: str
    workflow: "Workflow"
    reason: str = ""


@dataclass
class Record:
    """The results of all prompts so far."""

    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    files: set[Path] = field(default_factory=set)
    memory: list[int] = field(default_factory=list)


def job(number: int) -> Job:
    """The job with this number, the same every time."""
    if STOCK:
        return Job(VALID, stock_workflow(number))
    if number % 10 in (3, 7):
        name, target, value, reason = WRONG[number // 5 % len(WRONG)]
        return Job(INVALID, filled(name, number, {target: value}), reason)
    name = WORKFLOWS[number // 5 % len(WORKFLOWS)]
    if number % 10 == 5:
        endless = {"KSampler.steps": 10000, "EarlyFilterSampler.steps": 10000}
        return Job(INTERRUPTED, filled(name, number, endless))
    return Job(VALID, filled(name, number, {}))


def filled(name: str, number: int, changes: dict[str, Any]) -> "Workflow":
    from icedit.headless.workflow import load_workflow, with_instruction, with_picture, with_seed, with_values

    workflow = with_seed(load_workflow(PACK / "workflows" / "api" / f"{name}.json"), number)
    workflow = with_instruction(with_picture(workflow, f"{number % 4}.png"), f"make it colour {number % 7}")
    return with_values(workflow, {**SHORT, **changes})


def stock_workflow(number: int) -> "Workflow":
    """The edit with ComfyUI's own nodes: one picture with its right half masked."""
    workflow = filled("icedit", number, {})
    inputs = {node["class_type"]: node["inputs"] for node in workflow.values()}
    clip, model, vae = (inputs[kind][name] for kind, name in (
        ("InContextEditInstruction", "clip"), ("KSampler", "model"), ("ICEFConditioning", "vae")))  # fmt: skip
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "a": ("LoadImage", {"image": f"{number % 4}.png"}),
        "b": ("SolidMask", {"value": 1.0, "width": 128, "height": 96}),
        "c": ("CLIPTextEncode", {"text": f"make it colour {number % 7}", "clip": clip}),
        "d": ("ConditioningZeroOut", {"conditioning": ["c", 0]}),
        "e": ("InpaintModelConditioning", {
            "positive": ["c", 0], "negative": ["d", 0], "vae": vae, "pixels": ["f", 0], "mask": ["b", 0],
            "noise_mask": True}),
        "f": ("ImageScale", {
            "image": ["a", 0], "upscale_method": "area", "width": 128, "height": 96, "crop": "disabled"}),
        "g": ("KSampler", {**inputs["KSampler"], "positive": ["e", 0], "negative": ["e", 1], "latent_image": ["e", 2]}),
        "h": ("VAEDecode", {"samples": ["g", 0], "vae": vae}),
        "i": ("SaveImage", {"images": ["h", 0], "filename_prefix": "stock"}),
    }  # fmt: skip
    loaders = {key: workflow[key] for key in (clip[0], model[0], vae[0], inputs["LoraLoaderModelOnly"]["model"][0])}
    return loaders | {key: {"class_type": kind, "inputs": given} for key, (kind, given) in nodes.items()}


async def run_job(client: "ComfyClient", server: "Server", current: Job) -> tuple[str, set[Path]]:
    """How a job ended, and the files that it left."""
    from icedit.headless.client import ComfyError

    sampling = asyncio.Event()
    task = asyncio.create_task(client.run(current.workflow, lambda _: sampling.set()))
    if current.kind == INTERRUPTED:
        begun = asyncio.create_task(sampling.wait())
        await asyncio.wait({task, begun}, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        task.cancel()
    try:
        result = await task
    except asyncio.CancelledError:
        return INTERRUPTED, set()
    except ComfyError as error:
        return str(error), set()
    folders = {"output": server.output, "temp": server.folder / "temp"}
    files = {folders[picture.kind] / picture.subfolder / picture.filename for picture in result.pictures}
    return VALID if files and all(file.stat().st_size for file in files) else "no picture was saved", files


async def work(numbers: "asyncio.Queue[int]", server: "Server", record: Record) -> None:
    import psutil
    from icedit.headless.client import ComfyClient

    process = psutil.Process(server.process.pid)
    async with ComfyClient(server.url) as client:
        while not numbers.empty():
            number = numbers.get_nowait()
            current = job(number)
            became, files = await run_job(client, server, current)
            expected = current.reason if current.kind == INVALID else current.kind
            if (expected in became) if current.kind == INVALID else expected == became:
                record.done[current.kind] += 1
            else:
                record.wrong.append(f"{number}: expected {expected!r}, but: {became}")
            record.files |= files
            record.memory.append(process.memory_info().rss)


async def clear_history(server: "Server") -> None:
    import aiohttp

    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/history", json={"clear": True}) as answer,
    ):
        answer.raise_for_status()


def files_of(server: "Server") -> set[Path]:
    # All but the log, which grows in any case.
    return {path for path in server.folder.rglob("*") if path.is_file() and path != server.log_file}


async def soak(server: "Server") -> tuple[Record, set[Path]]:
    from PIL import Image

    for number in range(4):
        picture = Image.effect_noise((160, 120), 80).convert("RGB")
        picture.resize((640, 480)).save(server.folder / "input" / f"{number}.png")
    damaged = (server.folder / "input" / "0.png").read_bytes()[:2000]
    (server.folder / "input" / "damaged.png").write_bytes(damaged)
    before, record = files_of(server), Record()
    together = max(1, PROMPTS // 10) if FORGET else PROMPTS
    for first in range(0, PROMPTS, together):
        numbers: asyncio.Queue[int] = asyncio.Queue()
        for number in range(first, min(first + together, PROMPTS)):
            numbers.put_nowait(number)
        await asyncio.gather(*(work(numbers, server, record) for _ in range(IN_FLIGHT)))
        if FORGET:
            await clear_history(server)
    return record, files_of(server) - before - record.files


def summary(record: Record, stray: set[Path], seconds: float) -> dict[str, Any]:
    count = len(record.memory)
    start, tenth = int(count * WARM_UP), max(1, count // 10)
    after, last = (statistics.median(part) for part in (record.memory[start : start + tenth], record.memory[-tenth:]))
    expected = Counter(job(number).kind for number in range(PROMPTS))
    return {
        "nodes": "ComfyUI's own" if STOCK else "ICEdit's",
        "prompts": PROMPTS,
        "host_remembers": not FORGET,
        "as_expected": {kind: f"{record.done[kind]} of {count}" for kind, count in expected.items()},
        "wrong": record.wrong[:5],
        "stray_files": sorted(path.name for path in stray)[:5],
        "memory_mb": [round(record.memory[min(count - 1, round(part * count / 10))] / 1e6, 1) for part in range(11)],
        "growth": round(last / after - 1, 4),
        "seconds": round(seconds),
    }


def main() -> None:
    load_pack()
    from icedit.private_host.environment import Environment
    from icedit.private_host.server import running_server
    from support.tiny_stack import write_stack

    logging.disable(logging.WARNING)
    environment = Environment(Path(sys.executable), Path(os.environ["ICEDIT_HOST"]))
    with tempfile.TemporaryDirectory() as models:
        write_stack(Path(models))
        arguments = ("--cpu", "--cache-classic") if FORGET else ("--cpu",)
        with running_server(environment, Path(models), arguments) as server:
            start = time.perf_counter()
            record, stray = asyncio.run(soak(server))
            print(json.dumps(summary(record, stray, time.perf_counter() - start)))


if __name__ == "__main__":
    main()
