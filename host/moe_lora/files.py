"""Adapter files in the host's loras folders; the last ones read are kept."""

import hashlib
from collections import OrderedDict
from pathlib import Path

import folder_paths

from ...moe_lora.checkpoint import read_adapter
from ...moe_lora.errors import FileError
from ...moe_lora.files import SUFFIXES
from .experts import HeldAdapter

KEPT = 2
"""Two, for chained loaders. The paper's file takes 0.43 GB of RAM; on disk it could be overwritten while in use."""

_held: OrderedDict[tuple[str, int, int], HeldAdapter] = OrderedDict()


def adapter_names() -> list[str]:
    """Names of the safetensors files in the loras folders."""
    return [name for name in folder_paths.get_filename_list("loras") if name.lower().endswith(SUFFIXES)]


def held_adapter(name: str) -> HeldAdapter:
    """The adapter file of that name, read only when it is new or has changed.

    Raises:
        FileError: no such file, or one that cannot be used.
    """
    path, modified, size = _version(name)
    if (path, modified, size) in _held:
        _held.move_to_end((path, modified, size))
        return _held[path, modified, size]
    for version in [version for version in _held if version[0] == path]:
        del _held[version]
    held = HeldAdapter(read_adapter(Path(path)))
    _held[path, modified, size] = held
    while len(_held) > KEPT:
        _held.popitem(last=False)
    return held


def fingerprint(name: str) -> str:
    """Changes when the file does, without reading it. A hash, because the host saves it in pictures: no paths there."""
    return hashlib.sha256(repr(_version(name)).encode()).hexdigest()


def _version(name: str) -> tuple[str, int, int]:
    try:
        path = folder_paths.get_full_path_or_raise("loras", name)
        state = Path(path).stat()
    # The host does not compare a name from a link with its list: it may be on another drive, or no text at all.
    except (OSError, ValueError, TypeError) as error:
        raise FileError(
            f"There is no file {name!r} in ComfyUI's loras folders. Put it into models/loras and refresh (R), or "
            "choose another."
        ) from error
    return path, state.st_mtime_ns, state.st_size
