"""Pictures in web dataset shards: plain tar files, in which what belongs together has the same name up to its dot."""

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ManifestError, UnreadableSourceError

SUFFIX = ".tar"
TEXT_BYTES = 2**20
INSIDE = re.compile(r"(?P<shard>.*\.tar)!(?P<start>\d+)\+(?P<size>\d+)!(?P<name>[^!]*)")
"""A picture inside a shard, as rows name it: shard.tar!4096+1234!cat.png, where it starts and how long it is."""


def shard_rows(path: Path, pictures: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """A row for each sample of a shard: its picture, its instruction (.txt), and other columns (.json).

    Args:
        pictures: the suffixes of their names.

    Raises:
        ManifestError: it is no plain tar file.
    """
    samples: dict[str, dict[str, Any]] = {}
    try:
        # Compressed ones have no places to start from.
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                folder, slash, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                if not member.isfile() or not stem:
                    continue
                row = samples.setdefault(f"{folder}{slash}{stem}", {})
                suffix = f".{suffix.lower()}"
                if suffix in pictures:
                    row["picture"] = f"{path.name}!{member.offset_data}+{member.size}!{name}"
                elif suffix in (".txt", ".json") and member.size <= TEXT_BYTES:
                    content = shard.extractfile(member)
                    assert content is not None
                    row |= _columns(content.read(), suffix)
    except (tarfile.TarError, ValueError) as error:
        raise ManifestError(f"{path} is no shard that can be read, a tar file without compression: {error}") from error
    for key, row in samples.items():
        yield {"id": key.replace("/", "__"), "output": key, **row}


def source_size(path: Path) -> int:
    """In bytes.

    Raises:
        OSError: there is no such file.
    """
    inside = INSIDE.fullmatch(str(path))
    if inside is None:
        return path.stat().st_size
    return int(inside["size"]) if Path(inside["shard"]).stat() else 0


def read_source(path: Path) -> bytes:
    """A picture, in a file of its own or in a shard.

    Raises:
        UnreadableSourceError: it cannot be read.
    """
    inside = INSIDE.fullmatch(str(path))
    try:
        if inside is None:
            return path.read_bytes()
        with open(inside["shard"], "rb") as shard:
            shard.seek(int(inside["start"]))
            return shard.read(int(inside["size"]))
    except OSError as error:
        raise UnreadableSourceError(f"The picture {path} cannot be read: {error.strerror or error}") from error


def _columns(content: bytes, suffix: str) -> dict[str, Any]:
    text = content.decode("utf-8-sig").strip()
    found = {"instruction": text} if suffix == ".txt" else json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("a .json that is no object")
    return found
