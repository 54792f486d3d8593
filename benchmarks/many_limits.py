"""What one client of very many servers has to bear: its manifest, its results, its disk; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/many_limits.py [--rows 100000] [--pictures 400] [--threads 1 8 32]

`read`: a JSONL manifest of ROWS rows with pictures that exist, checked, planned and its fingerprint taken: seconds, and
megabytes by which the process grew. `taken_up`: the folder of a run with a line and a file for every row, opened again.
`kept`: PICTURES pictures of 1.5 MB saved with their lines, each on the disk before the call returns, from so many
threads at once: pictures a second, and how many such files without any lines the disk takes. All in the folder that
TMPDIR names, for the disk is what is measured.
"""

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from in_process import PACK, load_pack

PICTURE_BYTES = 1_500_000
"""A PNG of 1024 x 1024 pixels."""


@contextmanager
def measured(name: str, found: dict[str, Any]) -> Iterator[None]:
    import psutil

    process, begun = psutil.Process(), time.perf_counter()
    before = process.memory_info().rss
    yield
    grown = (process.memory_info().rss - before) / 1e6
    found[name] = {"seconds": round(time.perf_counter() - begun, 2), "more_mb": round(grown, 1)}


def written_manifest(folder: Path, count: int) -> Path:
    """Rows over a thousand pictures."""
    for number in range(1000):
        (folder / f"{number}.png").touch()
    path = folder / "edits.jsonl"
    with path.open("w") as file:
        for number in range(count):
            row = {"id": f"{number:08}", "picture": f"{number % 1000}.png", "instruction": f"make shape {number} blue"}
            file.write(f"{json.dumps(row)}\n")
    return path


def rows_and_results(folder: Path, count: int) -> dict[str, Any]:
    from icedit.headless.many.fingerprint import fingerprint_of
    from icedit.headless.many.manifest import Problems, read_manifest
    from icedit.headless.many.plan import ManifestSettings, make_plan
    from icedit.headless.many.results import LINES, OK, ResultLine, opened_results

    found: dict[str, Any] = {}
    path, problems = written_manifest(folder, count), Problems()
    with measured("read", found):
        manifest = read_manifest(path, (), problems)
        plan = make_plan(manifest, ManifestSettings(str(PACK / "workflows" / "api" / "icedit.json"), False), problems)
        fingerprint = fingerprint_of(manifest, plan)
        problems.raise_any(path)
    output = folder / "out"
    with opened_results(output, fingerprint, manifest.rows, False):
        pass
    with (output / LINES).open("w") as file:
        for row in manifest.rows:
            (output / f"{row.target}.png").touch()
            line = ResultLine(row.id, OK, f"{row.target}.png", "0" * 64, 1, None, 1.0, "http://127.0.0.1:8188")
            file.write(f"{line.to_json()}\n")
    with measured("taken_up", found), opened_results(output, fingerprint, manifest.rows, False) as results:
        assert len(results.done) == count
    return found


def kept(folder: Path, pictures: int, threads: int) -> dict[str, float]:
    """Pictures a second: with their lines, and the files alone."""
    from icedit.headless.many.durable_files import write_whole
    from icedit.headless.many.manifest import ManifestRow
    from icedit.headless.many.results import MadePicture, opened_results

    content = os.urandom(PICTURE_BYTES)
    rows = [ManifestRow(str(number), "a.png", "x") for number in range(pictures)]
    made = MadePicture(content, ".png", 1, None, 1.0, "http://127.0.0.1:8188")

    def rate(run: Any) -> float:
        with ThreadPoolExecutor(threads) as pool:
            begun = time.perf_counter()
            list(pool.map(run, rows))
            return round(pictures / (time.perf_counter() - begun), 1)

    with opened_results(folder / "kept", {}, rows, False) as results:
        with_lines = rate(lambda row: results.keep_picture(row, made))
    bare = folder / "bare"
    bare.mkdir()
    alone = rate(lambda row: write_whole(bare / f"{row.id}.png", content, bare))
    return {"with_lines": with_lines, "files_alone": alone}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    load_pack()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        figures = rows_and_results(Path(folder), options.rows)
    figures["kept"] = {}
    for threads in options.threads:
        rounds = []
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                rounds.append(kept(Path(folder), options.pictures, threads))
        figures["kept"][threads] = {
            key: [round(value, 1) for value in (statistics.median(each), min(each), max(each))]
            for key in ("with_lines", "files_alone")
            if (each := [one[key] for one in rounds])
        }
    print(json.dumps({"rows": options.rows, **figures}))


if __name__ == "__main__":
    main()
