"""A ComfyUI server that is watched: what it opens, writes and calls, with canaries where no prompt may reach."""

import json
import os
import shutil
import struct
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from icedit.early_filter.judges.api_key import HOSTS_VARIABLE, KEY_VARIABLE
from icedit.private_host.server import Server, running_server

from .pictures import photograph

AUDIT = Path(__file__).parent / "audit"
KEY = "sk-canary-71d0c4e2"

Prompt = dict[str, dict[str, Any]]
Event = tuple[str, ...]


@dataclass(frozen=True)
class Guarded:
    """The server, the folder that it may not touch, its models, and the record of its interpreter."""

    server: Server
    outside: Path
    models: Path
    audit: Path

    def answer(self, body: bytes) -> str:
        """What became of a prompt: "success", or all that the server said about why not."""
        request = urllib.request.Request(f"{self.server.url}/prompt", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                prompt_id = json.load(answer)["prompt_id"]
        except urllib.error.HTTPError as error:
            return _refusal(error.read().decode())
        while not (entry := self._get(f"/history/{prompt_id}").get(prompt_id)):
            time.sleep(0.05)
        if entry["status"]["status_str"] == "success":
            return "success"
        return " ".join(
            message["exception_message"] for kind, message in entry["status"]["messages"] if kind == "execution_error"
        )

    def events(self, start: int = 0) -> list[Event]:
        """What the server's interpreter did from this place in its record on."""
        with open(self.audit, "rb") as file:
            file.seek(start)
            return [tuple(json.loads(line)) for line in file]

    def files(self) -> dict[Path, tuple[int, int]]:
        """Everything in the server's folders, among its models and outside, with size and time of change."""
        roots = (self.server.folder, self.outside, self.models)
        paths = [path for root in roots for path in root.rglob("*") if path.suffix != ".log"]
        return {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths if not path.is_dir()}

    def read_outside(self) -> list[Path]:
        """The canaries that somebody has read, in whatever way."""
        return [path for path in self.outside.rglob("*.*") if path.stat().st_atime != 0]

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.server.url + path, timeout=60) as answer:
            return json.load(answer)


def _refusal(text: str) -> str:
    answer = json.loads(text)
    errors = [answer["error"], *(error for node in answer["node_errors"].values() for error in node["errors"])]
    return " ".join(f"{error['message']}: {error['details']}" for error in errors)


@contextmanager
def guarded_server(environment: Any, tiny_models: Path, scratch: Path) -> Iterator[Guarded]:
    models, outside, audit = scratch / "models", scratch / "outside", scratch / "audit"
    shutil.copytree(tiny_models, models)
    _write_canaries(outside, models)
    with ExitStack() as running:
        # For the server alone: what other tests start meanwhile is not watched and has no key.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(AUDIT))
            patch.setenv("ICEDIT_AUDIT", str(audit))
            patch.setenv(KEY_VARIABLE, KEY)
            patch.delenv(HOSTS_VARIABLE, raising=False)
            server = running.enter_context(running_server(environment, models))
        _write_inputs(server.folder / "input", outside)
        yield Guarded(server, outside, models, audit)


def _write_canaries(outside: Path, models: Path) -> None:
    """Things worth reading, all of them sound: only the place where they lie keeps them from being used."""
    from PIL import Image

    from .tiny_clip import write_clip

    outside.mkdir()
    Image.fromarray((photograph(1, 64, 64) * 255).byte().numpy()).save(outside / "secret.png")
    shutil.copyfile(models / "loras" / "icedit_moe_lora.safetensors", outside / "secret.safetensors")
    write_clip(outside / "clip")
    (outside / "deeper").mkdir()
    for path in outside.rglob("*"):
        # A reader leaves its trace in the time of access even where no interpreter tells: older than the change, it
        # is renewed by the first reading.
        os.utime(path, (0, path.stat().st_mtime))
    (models / "loras" / "pickled.safetensors").write_bytes(_evil_pickle(outside))
    (models / "loras" / "pickled.pt").write_bytes(_evil_pickle(outside))
    (models / "loras" / "endless.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    code = models / "clip_vision" / "code"
    write_clip(code)
    (code / "model.safetensors").unlink()
    (code / "pytorch_model.bin").write_bytes(_evil_pickle(outside))


def _evil_pickle(outside: Path) -> bytes:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(outside / "pickle was here"),)

    return pickle.dumps(Evil())


def _write_inputs(folder: Path, outside: Path) -> None:
    from PIL import Image

    Image.effect_noise((64, 64), 80).convert("RGB").save(folder / "fine.png")
    (folder / "text.png").write_text("no picture")
    # A header that promises 60 000 x 60 000 pixels.
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", zlib.compress(b"")) + _png_chunk(b"IEND", b"")
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    (folder / "folder.png").mkdir()
    wanted = [{"source": name, "edited": "fine.png", "instruction": "x"} for name in _ways_out(folder, outside)]
    (folder / "stolen.jsonl").write_text("\n".join(map(json.dumps, wanted)))
    (folder / "bomb.csv").write_text("source,edited,instruction\nfine.png,bomb.png,x")
    (folder / "linked").symlink_to(outside / "deeper", target_is_directory=True)


def _ways_out(folder: Path, outside: Path) -> tuple[str, str]:
    return str(outside / "secret.png"), os.path.relpath(outside / "secret.png", folder)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
