"""Manifests of quick edits, and what their results must be."""

import hashlib
import json
import shutil

from .workflows import PACK

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
