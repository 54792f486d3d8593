"""Reading the rows of a manifest as they stand: JSONL, CSV, parquet, or a folder of pictures or of shards of them."""

import csv
import json
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ManifestError
from .shards import SUFFIX, shard_rows

ROW_BYTES = 2**20
TABLE_BYTES = 2**30
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")

RawRow = tuple[str, dict[str, Any] | str]
"""Where a row stands ("line 7"), and its values by column, or what is wrong with it."""


def raw_rows(path: Path) -> Iterator[RawRow]:
    """The rows of a manifest, those that cannot be read as a sentence each.

    Raises:
        ManifestError: the file as a whole cannot be read.
    """
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if path.is_dir() or path.suffix == SUFFIX:
        yield from _pictures(path) if path.is_dir() else _shard(path)
        return
    if reader is None:
        raise ManifestError(
            f"The manifest {path} is none that can be read: name a file that ends in .jsonl, .csv or .parquet, or a "
            "folder of pictures or of web dataset shards (.tar)."
        )
    try:
        size = path.stat().st_size
        if size > TABLE_BYTES:
            raise ManifestError(
                f"The manifest {path} has {size / 2**30:.1f} GB, and at most {TABLE_BYTES // 2**30} GB are read. It "
                "names pictures and holds none; split it if it really is a list of that many edits."
            )
        yield from reader(path)
    except UnicodeDecodeError as error:
        raise ManifestError(f"The manifest {path} is in another encoding than UTF-8. Save it as UTF-8.") from error
    except OSError as error:
        raise ManifestError(f"The manifest {path} cannot be read: {error.strerror or error}.") from error


def _jsonl(path: Path) -> Iterator[RawRow]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(_lines(file), start=1):
            if line.strip():
                yield f"line {number}", _object(line)


def _lines(file: Any) -> Iterator[str]:
    # A file without line breaks is not read into memory as one line.
    while line := file.readline(ROW_BYTES):
        yield line


def _object(line: str) -> dict[str, Any] | str:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        cut = f", or is longer than {ROW_BYTES // 2**20} MB" if len(line) == ROW_BYTES else ""
        return f"is no JSON{cut}: {error}"
    return found if isinstance(found, dict) else 'is no JSON object such as {"id": "1", "picture": "a.png"}'


def _csv(path: Path) -> Iterator[RawRow]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield f"line {rows.line_num}", f"is no CSV: {error}"
                continue
            if row is None:
                return
            where = f"line {rows.line_num}"
            if None in row:
                yield where, f"has more values than the {len(rows.fieldnames or ())} columns of the first line"
            else:
                yield where, {name.strip(): _cell(name.strip(), value) for name, value in row.items() if name}


def _cell(name: str, text: str | None) -> Any:
    """A cell of CSV has no type: what is set in a workflow is read as JSON where it is some, as --set reads it."""
    if text and name.startswith("set."):
        with suppress(ValueError):
            return json.loads(text)
    return text


def _parquet(path: Path) -> Iterator[RawRow]:
    try:
        # Not at the top: it is a large package, which few manifests need.
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ManifestError(
            f"Reading {path.name} takes the package pyarrow: install it by `pip install pyarrow`, or write a .jsonl."
        ) from error
    try:
        number = 0
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1000):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", {name: value for name, value in row.items() if not _is_nothing(value)}
    except (pyarrow.ArrowException, OSError) as error:
        raise ManifestError(f"The manifest {path} is no parquet file that can be read: {error}") from error


def _is_nothing(value: Any) -> bool:
    # Tables from pandas have NaN where there is no value.
    return value is None or (isinstance(value, float) and math.isnan(value))


def _shard(path: Path) -> Iterator[RawRow]:
    for row in shard_rows(path, PICTURE_SUFFIXES):
        yield f"{path.name}, {row['output']}", row


def _pictures(folder: Path) -> Iterator[RawRow]:
    """Every picture of a folder and of those in it; results keep their places."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name).relative_to(folder)
            if path.suffix == SUFFIX and Path(place) == folder:
                yield from _shard(folder / name)
            if path.suffix.lower() in PICTURE_SUFFIXES and not name.startswith("."):
                shown, target = path.as_posix(), path.with_suffix("").as_posix()
                yield shown, {"id": target.replace("/", "__"), "picture": shown, "output": target}
