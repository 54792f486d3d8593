"""A ComfyUI server on a free loopback port, with this pack in it, for the time of a `with` block."""

import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .environment import Environment

log = logging.getLogger(__name__)

PACK = Path(__file__).resolve().parent.parent
TINY_TEXT_ENCODERS = Path(__file__).parent / "text_encoders"
TIED = Path(__file__).parent / "tied.py"
START_SECONDS = 600.0
"""An installation with many node packs takes minutes; one that ends while starting is noticed at once."""
STOP_SECONDS = 10.0
OFFLINE = {"HF_HUB_OFFLINE": "1"}


class ServerError(RuntimeError):
    """The server did not start; the message holds the end of its log."""


@dataclass(frozen=True)
class Server:
    """A running server: its address, its private folders, its log file and process."""

    url: str
    folder: Path
    log_file: Path
    process: subprocess.Popen[bytes]

    @property
    def output(self) -> Path:
        return self.folder / "output"


@contextmanager
def running_server(
    environment: Environment,
    models: Path | None,
    arguments: Sequence[str] = ("--cpu",),
    pack_name: str = "comfyui-icedit",
    pack: Path = PACK,
) -> Iterator[Server]:
    """Start ComfyUI on a free port with private folders; stop it and remove them afterwards.

    Args:
        environment: which ComfyUI, from `environment.prepare` or `installed.installed`.
        models: a folder with `diffusion_models/`, `vae/` and so on, to be all its models. With None it has its own
            models, node packs and input pictures beside this pack; its output, temp and user folders stay as they are.
        arguments: further command line arguments for ComfyUI.
        pack_name: the folder name under custom_nodes that the pack gets.
        pack: the pack's folder (default: this one).

    Raises:
        ServerError: the server ended while starting, or did not respond.
    """
    with tempfile.TemporaryDirectory(prefix="icedit-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for part in ("custom_nodes", "input", "output", "temp", "user"):
            (folder / part).mkdir()
        _link(pack, folder / "custom_nodes" / pack_name)
        if models is None:
            folders, environ = _in_place_of_its_own(folder), _environ()
        else:
            folders, environ = _nothing_else(folder, models), {**_environ(), **OFFLINE}
        url, command = _command(environment, folder, [*folders, *arguments])
        log_file = folder / "comfyui.log"
        with open(log_file, "wb") as output:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=environ
            )
        server = Server(url, folder, log_file, process)
        try:
            _wait_until_ready(server)
            yield server
        finally:
            _stop(process)


def _nothing_else(folder: Path, models: Path) -> list[str]:
    """The arguments for a ComfyUI that has nothing but what is in these folders."""
    _link(TINY_TEXT_ENCODERS, folder / "custom_nodes" / "tiny-text-encoders")
    _write_paths(folder, models, sorted(entry.name for entry in models.iterdir() if entry.is_dir()))
    return ["--base-directory", str(folder), "--disable-api-nodes"]


def _in_place_of_its_own(folder: Path) -> list[str]:
    """The arguments for a ComfyUI that has these folders in place of those that it writes into."""
    # Loaded after the installation's own: where a copy of this pack is installed there, this one's nodes are used.
    _write_paths(folder, folder, ["custom_nodes"])
    written = ["--output-directory", str(folder / "output"), "--temp-directory", str(folder)]
    return [*written, "--user-directory", str(folder / "user")]


def _write_paths(folder: Path, base: Path, kinds: Sequence[str]) -> None:
    lines = ["icedit:", f"  base_path: {base.as_posix()!r}", *(f"  {kind}: {kind}/" for kind in kinds)]
    (folder / "paths.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        # Windows grants symbolic links to administrators and developers only.
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(".git", "__pycache__", ".*"))


def _command(environment: Environment, folder: Path, arguments: Sequence[str]) -> tuple[str, list[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # As the portable Windows download starts it: packages of the user's other Pythons are not for it.
    isolated = ["-s"] if environment.python.parent.name == "python_embeded" else []
    command = [str(environment.python), *isolated, str(TIED), str(environment.host / "main.py")]
    command += ["--extra-model-paths-config", str(folder / "paths.yaml")]
    command += ["--database-url", "sqlite:///:memory:", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--disable-auto-launch", *arguments]
    if environment.page:
        command += ["--front-end-root", str(environment.page)]
    return f"http://127.0.0.1:{port}", command


def _environ() -> dict[str, str]:
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    # Tokens for another server must not reach this one or the nodes that it runs.
    own = {name: value for name, value in os.environ.items() if not name.startswith("ICEDIT_SERVER_")}
    return {**own, **quiet}


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise ServerError(
                f"ComfyUI ended while starting, exit status {server.process.returncode}.\n{_tail(server)}"
            )
        try:
            with urllib.request.urlopen(f"{server.url}/system_stats", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise ServerError(f"ComfyUI did not answer within {START_SECONDS:.0f} s.\n{_tail(server)}")


def _tail(server: Server, lines: int = 30) -> str:
    return "\n".join(server.log_file.read_text(errors="replace").splitlines()[-lines:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        log.warning("ComfyUI did not stop within %.0f s and is being killed", STOP_SECONDS)
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
