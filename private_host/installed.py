"""A ComfyUI that is installed already, and the interpreter that runs it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .environment import Environment, SetupError, interpreter_of


def installed(folder: Path, python: Path | None = None) -> Environment:
    """The ComfyUI in a folder: ComfyUI's own, or the one around it as that of the portable Windows download.

    Args:
        python: the interpreter to run it with; if not given, the one that belongs to it is looked for.

    Raises:
        SetupError: there is no ComfyUI in the folder, or no interpreter that could run it.
    """
    places = (folder.absolute(), folder.absolute() / "ComfyUI")
    host = next((place for place in places if (place / "main.py").is_file() and (place / "comfy").is_dir()), None)
    if host is None:
        raise SetupError(
            f"There is no ComfyUI in {folder}: neither there nor in a folder ComfyUI in it are ComfyUI's main.py and "
            "comfy. Name the folder into which ComfyUI was cloned or unpacked. (ComfyUI Desktop cannot be started by "
            "others; start it and name its address as the server.)"
        )
    candidates = list(_interpreters(host)) if python is None else [Path(shutil.which(python) or python).absolute()]
    for candidate in candidates:
        if candidate.is_file() and _has_torch(candidate):
            return Environment(candidate, host)
    raise SetupError(
        f"No Python with PyTorch, which ComfyUI needs, was found for {host}. These were tried:\n"
        + "".join(f"  {candidate}\n" for candidate in candidates)
        + "Name the one that you start ComfyUI with, as --comfyui-python /path/to/python"
    )


def _interpreters(host: Path) -> Iterator[Path]:
    """Where installations have theirs, and the one that runs this."""
    for folder in (host, host.parent):
        yield from (interpreter_of(folder / name) for name in ("venv", ".venv"))
    yield host.parent / "python_embeded" / "python.exe"
    yield Path(sys.executable)


def _has_torch(python: Path) -> bool:
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
    try:
        # Not in the current folder, which may have a torch of its own.
        done = subprocess.run([python, "-c", look], cwd=python.parent, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0
