"""What training teaches the mini models (`teach.py`), many trainings side by side: the GPU waits for the processors."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from in_process import PACK

from ..setting import Setting

ENLARGE = ("new", "--task", "enlarge", "--rows", "enlarge")
TRAININGS: dict[str, Sequence[str]] = {
    **{
        name: ("router", "--rows", name)
        for seed in range(3)
        for name in (f"learned router {seed}", f"as published {seed}", f"ordinary LoRA {seed}")
    },
    **{name: ("curve", "--rows", f"^{name}") for name in ("25 pairs", "50 pairs", "100 pairs", "400 pairs")},
    **{name: ("share", "--rows", name) for name in ("share 0.0", "share 0.25")},
    "200 pairs": ("curve", "--rows", "^200 pairs"),
    "share 0.75": ("share", "--rows", "share 0.75"),
    "enlarge": ENLARGE,
    "800 pairs": ("curve", "--rows", "800 pairs"),
    "enlarge, 400 pairs": (*ENLARGE, "--pairs", "400"),
}
STEPS, EDITS = 600, 120
SPARED = 3
"""Processors that are left to the driver and to other programs."""
TINY = ("--steps", "2", "--old-pairs", "6", "--edits", "6", "--batch", "2")


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    tiny = setting.size.hidden < 3072
    more = TINY if tiny else ("--steps", str(STEPS), "--edits", str(EDITS))
    more = (*more, "--cuda") if setting.on_cuda else more
    names = list(TRAININGS)[:1] if tiny else list(TRAININGS)
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - SPARED)) as pool:
        rows = {pool.submit(_row, [*TRAININGS[name], *more]): name for name in names}
        for done in as_completed(rows):
            yield {rows[done]: done.result()}


def _row(arguments: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, str(PACK / "benchmarks" / "teach.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        return {"error": done.stderr.strip()[-500:]}
    (row,) = next(iter(json.loads(done.stdout.splitlines()[-1]).values()))
    return row
