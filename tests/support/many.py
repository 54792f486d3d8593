"""Manifests of quick edits, and what their results must be."""

import asyncio
import contextlib
import hashlib
import json
import shutil

from icedit.headless.client import ComfyClient
from icedit.headless.many.limits import SAME_REASON, FailuresInARow, TimeLimit
from icedit.headless.many.manifest import Problems, read_manifest
from icedit.headless.many.plan import ManifestSettings, make_plan
from icedit.headless.many.results import opened_results
from icedit.headless.many.run import ManifestRun
from icedit.headless.many.servers import ServersRun

from .workflows import PACK, WORKFLOWS

QUICK = ("DiptychCreate.panel_width=64", "KSampler.steps=1")


def manifest_of(folder, count, **values):
    """Rows with a seed each, of two pictures."""
    shutil.copy(PACK / "headless" / "astronaut.jpg", folder / "a.jpg")
    shutil.copy(PACK / "mini" / "example.png", folder / "b.png")
    row = {"instruction": "make it blue", **values}
    rows = [{"id": f"{n}", "picture": ("a.jpg", "b.png")[n % 2], "seed": n, **row} for n in range(count)]
    path = folder / "edits.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def arguments(path, *urls):
    """For the command line."""
    sets = [part for assignment in QUICK for part in ("--set", assignment)]
    return [str(part) for part in ("--manifest", path, "--server", *urls, "--output", path.parent / "out", *sets)]


def lines_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def known(folder):
    """How many lines there are."""
    return len((folder / "results.jsonl").read_bytes().splitlines()) if (folder / "results.jsonl").exists() else 0


def made_once(folder, count):
    """Every edit has one line, and its picture is the one in the line."""
    lines = lines_of(folder)
    assert sorted(int(line["id"]) for line in lines) == list(range(count))
    for line in lines:
        assert line["status"] == "ok", line
        assert hashlib.sha256((folder / line["file"]).read_bytes()).hexdigest() == line["sha256"]
    return lines


async def edit_on(path, urls, disturb=None, limit=None, stop_after=SAME_REASON, retry_failed=False):
    """Run a manifest as the command line does, on servers that `disturb` is given the time to disturb."""
    problems = Problems()
    manifest = read_manifest(path, (), problems)
    plan = make_plan(manifest, ManifestSettings(str(WORKFLOWS / "api" / "icedit.json"), False, sets=QUICK), problems)
    problems.raise_any(path)
    with opened_results(path.parent / "out", {}, manifest.rows, retry_failed) as results:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(ComfyClient(url, "temp", (0.1,))) for url in urls]
            done = asyncio.Event()
            run = ManifestRun(manifest, plan, results)
            disturbing = asyncio.create_task(disturb(done)) if disturb else None
            await ServersRun(
                clients, run, lambda _: done.set(), TimeLimit(limit), FailuresInARow(stop_after)
            ).make_all()
            if disturbing:
                await disturbing
            return run.servers
