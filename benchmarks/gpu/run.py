"""Runs the GPU measurements one after another; prints one JSON line for each.

    python benchmarks/gpu/run.py [ENTRY ...] [--size full|tiny] [--seconds 1500] [--results FILE]

It needs no network: ComfyUI and the packages that the machine lacks come from benchmarks/gpu/bundle (bundle.py makes
it), or without a bundle from ICEDIT_HOST and this interpreter. An entry runs in a process of its own and for at most 8
minutes; one that fails or is stopped gives the figures that it had. `--size tiny` tries everything on any machine.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUNDLE = HERE / "bundle"

ENTRIES = (
    "layer", "step", "kernels", "reuse", "early_filter", "fp8", "dynamic", "memory_8", "memory_12", "memory_16",
    "memory_24", "mini", "tests", "compile", "training", "teach", "mini_training",
)  # fmt: skip
"""What is worth most for its time comes first: the end of the list is what a short loan of a GPU leaves out."""
MOST_SECONDS = 480.0
LEAST_SECONDS = 20.0
"""With less left than this no entry is begun."""
FILMS = {"av": "", "av/container": "InputContainer", "av/video": "", "av/video/reformatter": "ColorRange"}
FILMS |= {"av/subtitles": "", "av/subtitles/stream": "SubtitleStream"}
"""What ComfyUI imports of `av`, which has 35 MB and reads films: nothing here does, so empty classes take its place."""

Command = Callable[[str], Sequence[str]]


def run_list(
    entries: Sequence[str], command: Command, budget: float, environment: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """The result of every entry, as soon as it is there.

    Args:
        command: what to start for an entry.
        budget: seconds for all of them.
    """
    until = time.monotonic() + budget
    for entry in entries:
        left = min(MOST_SECONDS, until - time.monotonic())
        if left < LEAST_SECONDS:
            yield {"entry": entry, "left_out": f"the {budget:.0f} s for all entries are used up"}
        else:
            yield _result(entry, command(entry), left, environment)


def _result(entry: str, command: Sequence[str], seconds: float, environment: Mapping[str, str]) -> dict[str, Any]:
    """An entry prints its figures so far whenever it has more; the last line holds all."""
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as figures, tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen(
            command, stdout=figures, stderr=messages, env=dict(environment), start_new_session=True
        )
        result: dict[str, Any] = {"entry": entry}
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _stop(process)
        result["wall_s"] = round(time.monotonic() - begun, 1)
        figures.seek(0)
        result |= _last_object(figures.read())
        if status is None:
            result["stopped_after_s"] = round(seconds)
        elif status != 0:
            messages.seek(0)
            result["error"] = messages.read().strip()[-1500:] or f"ended with status {status}"
    return result


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Also the processes that it started, for example compilers."""
    with contextlib.suppress(ProcessLookupError):  # all have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_object(text: str) -> dict[str, Any]:
    lines = [line for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
    return json.loads(lines[-1]) if lines else {}


def unpacked(bundle: Path, folder: Path) -> dict[str, str]:
    """Unpack the bundle into a folder; the environment variables with which programs find its parts."""
    with tarfile.open(bundle / "comfyui.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    for name in ("input", "output", "models"):
        (folder / "ComfyUI" / name).mkdir()
    site = folder / "site-packages"
    for wheel in sorted((bundle / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    for name, classes in FILMS.items():
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").write_text("".join(f"class {one}: ...\n" for one in classes.split()))
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    return {"ICEDIT_HOST": str(folder / "ComfyUI"), "PYTHONPATH": path}


def main() -> None:
    parser = argparse.ArgumentParser(prog="run.py")
    parser.add_argument("entries", nargs="*", metavar="ENTRY", help=f"some of {', '.join(ENTRIES)} (default: all)")
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--seconds", type=float, default=1500.0, help="for all entries together (default: %(default)s)")
    parser.add_argument("--results", type=Path, help="a file to which the lines are appended, too")
    options = parser.parse_args()
    unknown = set(options.entries) - set(ENTRIES)
    if unknown:
        parser.error(f"no entry is called {min(unknown)}; there are {', '.join(ENTRIES)}")

    def command(entry: str) -> list[str]:
        return [sys.executable, str(HERE / "entry.py"), entry, "--size", options.size]

    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        # An entry that is stopped leaves its files there.
        environment = {**os.environ, "TMPDIR": folder}
        environment |= unpacked(BUNDLE, Path(folder)) if BUNDLE.is_dir() else {}
        if "ICEDIT_HOST" not in environment:
            parser.error(f"there is no {BUNDLE}, and ICEDIT_HOST names no ComfyUI. Make the bundle with bundle.py")
        left = options.seconds - (time.monotonic() - begun)
        for result in run_list(options.entries or ENTRIES, command, left, environment):
            line = json.dumps(result)
            print(line, flush=True)
            if options.results:
                with options.results.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
