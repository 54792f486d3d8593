"""The tests that run ComfyUI in their process, on this device, in float32 without TF32. Several files run side by side,
each in a process of its own, so that those that were run count where time ends."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from in_process import PACK

from ..setting import Setting

FIRST = ("golden", "moe", "early_filter", "known_tokens")
"""Words in the names of the files whose results on CUDA are most wanted, in this order."""


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    counts, wrong = {"passed": 0, "failed": 0, "skipped": 0}, []
    files = _files()[: 1 if setting.size.hidden < 3072 else None]
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
        runs = {pool.submit(_cases, file, setting): file for file in files}
        for number, run in enumerate(as_completed(runs), 1):
            file, cases = runs[run], run.result()
            if not cases:
                wrong.append(f"{file.name}: no test was run to its end")
            for case in cases:
                bad = [part for part in case if part.tag in ("failure", "error")]
                kind = "failed" if bad else "skipped" if case.find("skipped") is not None else "passed"
                counts[kind] += 1
                wrong += [f"{file.stem}::{case.get('name')}: {(part.get('message') or '')[:200]}" for part in bad]
            yield {**counts, "files": number, "of": len(files), "wrong": wrong}


def _files() -> list[Path]:
    files = [path for path in (PACK / "tests").glob("test_*.py") if re.search(r"mark\.host\b", path.read_text("utf-8"))]
    return sorted(files, key=lambda path: (next((i for i, w in enumerate(FIRST) if w in path.stem), len(FIRST)), path))


def _cases(file: Path, setting: Setting) -> list[ElementTree.Element]:
    report = setting.folder / f"{file.stem}.xml"
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0"} | ({"ICEDIT_HOST_CUDA": "1"} if setting.on_cuda else {})
    options = ["-q", "-m", "host", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", str(file), *options]
    subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
