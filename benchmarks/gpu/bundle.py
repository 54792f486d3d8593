"""Collects what a GPU machine without network lacks, in benchmarks/gpu/bundle: ComfyUI's source and small wheels.

    nox -s benchmark -- gpu/bundle.py

ComfyUI is the one of ICEDIT_HOST (with nox the private one, downloaded by its hash); the wheels come from the package
index that pip is set up for. Together with the files of this repository it stays below 64 MiB, or this fails.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACK = HERE.parent.parent
BUNDLE = HERE / "bundle"
HOST_ARCHIVE, WHEELS = "comfyui.tar.xz", "wheels"
LIMIT = 64 * 2**20
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64")

# Its wheel for a platform holds CUDA kernels of its own (45 MB); the one for any holds those written in triton.
FOR_ANY_PLATFORM = ("comfy-kitchen",)
PINNED = ("comfy-aimdo",)
PACKAGES = (
    "alembic", "annotated-types", "blake3", "greenlet", "kornia", "kornia-rs", "mako", "pydantic", "pydantic-core",
    "pydantic-settings", "python-dotenv", "simpleeval", "spandrel", "sqlalchemy", "torchsde", "trampoline",
    "typing-inspection",
)  # fmt: skip
LEFT_OUT = {"tests", "tests-unit", "blueprints", "input", "output", "models"}
"""Folders of ComfyUI's that nothing here reads. The last three hold what its user put there."""


def build(host: Path, bundle: Path = BUNDLE) -> int:
    """Make the bundle anew; its size in bytes with the repository's files.

    Raises:
        SystemExit: it does not fit, or the wheels cannot be had.
    """
    with tempfile.TemporaryDirectory(dir=bundle.parent) as scratch:
        folder = Path(scratch, "bundle")
        (folder / WHEELS).mkdir(parents=True)
        _pack_host(host, folder / HOST_ARCHIVE)
        _download_wheels(host, folder / WHEELS)
        size = sum(path.stat().st_size for path in (*folder.rglob("*"), *_repository_files()) if path.is_file())
        if size > LIMIT:
            raise SystemExit(
                f"Bundle and repository have {size / 2**20:.1f} MiB, expected at most {LIMIT / 2**20:.0f}: leave out "
                "packages that nothing measured here imports."
            )
        shutil.rmtree(bundle, ignore_errors=True)
        folder.rename(bundle)
    return size


def _pack_host(host: Path, archive: Path) -> None:
    def compiled_left_out(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if "__pycache__" in member.name else member

    with tarfile.open(archive, "w:xz") as tar:
        for path in sorted(host.iterdir()):
            if path.name not in LEFT_OUT and not path.name.startswith("."):
                tar.add(path, f"ComfyUI/{path.name}", filter=compiled_left_out)


def _download_wheels(host: Path, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:"]
    pip += ["--python-version", PYTHON, "--dest", str(folder), "-c", str(PACK / "private_host" / "constraints.txt")]
    pinned = _pinned_by(host)
    _run([*pip, "--platform", "any", *(pinned[name] for name in FOR_ANY_PLATFORM)])
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    _run([*pip, *platforms, *PACKAGES, *(pinned[name] for name in PINNED)])


def _pinned_by(host: Path) -> dict[str, str]:
    """The lines of ComfyUI's requirements.txt that pin a version, by the package's name."""
    lines = (host / "requirements.txt").read_text(encoding="utf-8").split()
    return {line.split("==")[0]: line for line in lines if "==" in line}


def _run(command: list[str]) -> None:
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"The wheels could not be had. The command was:\n  {' '.join(command)}")


def _repository_files() -> list[Path]:
    listed = subprocess.run(["git", "-C", str(PACK), "ls-files", "-z"], capture_output=True, text=True, check=True)
    return [PACK / name for name in listed.stdout.split("\0") if name]


if __name__ == "__main__":
    print(f"{BUNDLE}: {build(Path(os.environ['ICEDIT_HOST'])) / 2**20:.1f} MiB with the repository")
