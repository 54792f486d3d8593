"""The tests that run ComfyUI in their process, on this device, in float32 without TF32; file by file, so that those
that were run count where time ends."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from in_process import PACK

from ..setting import Setting

FIRST = ("golden", "moe", "early_filter", "known_tokens")
"""Words in the names of the files whose results on CUDA are most wanted, in this order."""


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    counts, wrong = {"passed": 0, "failed": 0, "skipped": 0}, []
    for file in _files()[: 1 if setting.size.hidden < 3072 else None]:
        report = setting.folder / f"{file.stem}.xml"
        _run(file, report, setting)
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
        if not cases:
            wrong.append(f"{file.name}: no test was run to its end")
        for case in cases:
            bad = [part for part in case if part.tag in ("failure", "error")]
            kind = "failed" if bad else "skipped" if case.find("skipped") is not None else "passed"
            counts[kind] += 1
            wrong += [f"{file.stem}::{case.get('name')}: {(part.get('message') or '')[:200]}" for part in bad]
        yield {**counts, "until": file.name, "wrong": wrong}


def _files() -> list[Path]:
    files = [path for path in (PACK / "tests").glob("test_*.py") if re.search(r"mark\.host\b", path.read_text("utf-8"))]
    return sorted(files, key=lambda path: (next((i for i, w in enumerate(FIRST) if w in path.stem), len(FIRST)), path))


def _run(file: Path, report: Path, setting: Setting) -> None:
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0"} | ({"ICEDIT_HOST_CUDA": "1"} if setting.on_cuda else {})
    options = ["-q", "-m", "host", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", str(file), *options]
    subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
