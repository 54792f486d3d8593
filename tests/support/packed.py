"""The registry's own tool, comfy-cli, in a throwaway environment of uv's cache."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv

from .workflows import PACK

COMFY_CLI = "comfy-cli==1.23.0"


@dataclass(frozen=True)
class Checkout:
    """A copy of the pack in a git repository of its own, as comfy-cli wants it; it packs what git knows."""

    folder: Path
    home: Path

    @classmethod
    def copy(cls, scratch: Path) -> "Checkout":
        if shutil.which("git") is None:
            pytest.skip("comfy-cli needs git")
        listed = _run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], PACK)
        if listed.returncode != 0:
            pytest.skip("this is no git checkout, and git says which files belong to the pack")
        checkout = cls(scratch / "checkout", scratch / "home")
        checkout.home.mkdir()
        for name in filter(None, listed.stdout.split("\0")):
            if (PACK / name).is_file():
                target = checkout.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(PACK / name, target)
        for command in (["git", "init", "--quiet"], ["git", "add", "--all"]):
            assert _run(command, checkout.folder).returncode == 0
        return checkout

    def comfy(self, *arguments: str) -> str:
        """What comfy-cli says, both streams; skips the test where it cannot be installed."""
        tool = uv.find_uv_bin()
        cache = _run([tool, "cache", "dir"], PACK).stdout.strip()
        # A home of its own: comfy-cli keeps settings there.
        environ = {**os.environ, "HOME": str(self.home), "USERPROFILE": str(self.home), "UV_CACHE_DIR": cache}
        run = [tool, "tool", "run", "--quiet", "--from", COMFY_CLI]
        if _run([*run, "comfy", "--version"], self.folder, environ).returncode != 0:
            pytest.skip(f"{COMFY_CLI} cannot be installed here")
        options = ["--skip-prompt", "--no-enable-telemetry"]
        done = _run([*run, "comfy", *options, *arguments], self.folder, environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


def _run(command: list[str], folder: Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
