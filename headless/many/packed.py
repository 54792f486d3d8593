"""Finished edits as shards with the pictures inside: parquet tables, or web datasets (tar files)."""

import hashlib
import io
import json
import logging
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ComfyError, ManifestError
from ..places import instruction_places
from .manifest import ManifestRow
from .results import LINES, OK
from .run import ManifestRun
from .shards import INSIDE, read_source

log = logging.getLogger(__name__)

PARQUET, TAR = "parquet", "tar"
FOLDER = "shards"
INDEX = "index.json"
MOST_EDITS = 1000
MOST_BYTES = 2**29
"""Of the results in a shard; the sources come on top."""
GROUP = 50
"""Rows that readers of a table hold at once."""
PICTURE = {"_type": "Image"}
FEATURES = {
    "id": {"dtype": "string", "_type": "Value"},
    "instruction": {"dtype": "string", "_type": "Value"},
    "source": PICTURE,
    "edited": PICTURE,
    "seed": {"dtype": "uint64", "_type": "Value"},
    "score": {"dtype": "float64", "_type": "Value"},
    "seconds": {"dtype": "float64", "_type": "Value"},
    "server": {"dtype": "string", "_type": "Value"},
    "sha256": {"dtype": "string", "_type": "Value"},
}
"""As the data sets' hub wants to be told of them, to show the pictures."""


@dataclass(frozen=True)
class FinishedEdit:
    """A row, its line in the results, and the instruction that it was made with."""

    row: ManifestRow
    line: dict[str, Any]
    instruction: str


def check_packing(kind: str | None) -> None:
    """
    Raises:
        ManifestError: what it takes is not installed.
    """
    if kind == PARQUET:
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            reason = "--shards parquet takes the package pyarrow: pip install pyarrow; --shards tar takes nothing."
            raise ManifestError(reason) from error


def pack(run: ManifestRun, kind: str) -> Path:
    """Write the shards of all edits that are made, in the manifest's order; those that have not changed stay.

    Returns:
        their folder.

    Raises:
        OSError: they cannot be written.
    """
    folder = run.results.folder / FOLDER
    folder.mkdir(exist_ok=True)
    known, index = _index(folder), dict[str, str]()
    for number, edits in enumerate(_portions(run)):
        name = f"edits-{number:05d}.{kind}"
        index[name] = hashlib.sha256(
            json.dumps([(one.row.id, one.line["sha256"]) for one in edits]).encode()
        ).hexdigest()
        if known.get(name) != index[name] or not (folder / name).is_file():
            with _whole(folder / name) as part:
                (_write_parquet if kind == PARQUET else _write_tar)(part, edits, run)
    with _whole(folder / INDEX) as part:
        part.write_text(json.dumps(index, indent=1), encoding="utf-8")
    for name in known.keys() - index.keys():
        # Of the other kind, or beyond the last one.
        (folder / name).unlink(missing_ok=True)
    return folder


def _index(folder: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        found = json.loads((folder / INDEX).read_bytes())
        return {str(name): str(digest) for name, digest in found.items() if str(name).startswith("edits-")}
    return {}


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _portions(run: ManifestRun) -> Iterator[list[FinishedEdit]]:
    found: list[FinishedEdit] = []
    size = 0
    for edit in _finished(run):
        one = (run.results.folder / edit.line["file"]).stat().st_size
        if found and (len(found) == MOST_EDITS or size + one > MOST_BYTES):
            yield found
            found, size = [], 0
        found.append(edit)
        size += one
    if found:
        yield found


def _finished(run: ManifestRun) -> Iterator[FinishedEdit]:
    with open(run.results.folder / LINES, encoding="utf-8") as file:
        lines = {line["id"]: line for line in map(json.loads, file) if line["status"] == OK}
    for row in run.manifest.rows:
        if row.id in lines:
            workflow = run.plan.workflow_of(row)
            own = [str(workflow[key]["inputs"][name]) for key, name in instruction_places(workflow)]
            yield FinishedEdit(row, lines[row.id], "\n".join(own) if row.instruction is None else row.instruction)


def _pictures(edit: FinishedEdit, run: ManifestRun) -> tuple[bytes, bytes] | None:
    """Source and result; None where the source is gone meanwhile."""
    try:
        source = read_source(run.manifest.place(edit.row.picture))
    except ComfyError as error:
        log.warning("The edit %s is left out of the shards: %s", edit.row.id, error)
        return None
    return source, (run.results.folder / edit.line["file"]).read_bytes()


def _source_name(edit: FinishedEdit) -> str:
    inside = INSIDE.fullmatch(edit.row.picture)
    return inside["name"] if inside else Path(edit.row.picture).name


def _write_tar(path: Path, edits: Sequence[FinishedEdit], run: ManifestRun) -> None:
    """What belongs together has the same number: NUMBER.png, NUMBER.source.jpg, NUMBER.txt, NUMBER.json."""
    with tarfile.open(path, "w") as shard:
        for number, edit in enumerate(edits):
            pictures = _pictures(edit, run)
            if pictures is None:
                continue
            parts = {
                Path(edit.line["file"]).suffix[1:]: pictures[1],
                f"source{Path(_source_name(edit)).suffix.lower()}": pictures[0],
                "txt": edit.instruction.encode(),
                "json": json.dumps({"id": edit.row.id, **_facts(edit)}, ensure_ascii=False).encode(),
            }
            # Ids may hold dots, at which readers would cut them.
            for suffix, content in parts.items():
                info = tarfile.TarInfo(f"{number:06d}.{suffix}")
                info.size = len(content)
                shard.addfile(info, io.BytesIO(content))


def _write_parquet(path: Path, edits: Sequence[FinishedEdit], run: ManifestRun) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    types = {"string": pa.string(), "uint64": pa.uint64(), "float64": pa.float64()}
    fields = [(name, picture if one is PICTURE else types[one["dtype"]]) for name, one in FEATURES.items()]
    schema = pa.schema(fields, {"huggingface": json.dumps({"info": {"features": FEATURES}})})
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, len(edits), GROUP):
            rows = []
            for edit in edits[start : start + GROUP]:
                if (pictures := _pictures(edit, run)) is not None:
                    source = {"bytes": pictures[0], "path": _source_name(edit)}
                    edited = {"bytes": pictures[1], "path": Path(edit.line["file"]).name}
                    own = {"id": edit.row.id, "instruction": edit.instruction, "source": source, "edited": edited}
                    rows.append(own | _facts(edit))
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _facts(edit: FinishedEdit) -> dict[str, Any]:
    return {name: edit.line.get(name) for name in ("seed", "score", "seconds", "server", "sha256")}
