"""A manifest: the edits to make, checked before any work."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..errors import ManifestError
from .shards import SUFFIX, source_size
from .tables import RawRow, raw_rows

COLUMNS = ("id", "picture", "instruction", "seed", "description", "region", "workflow", "output")
SET = "set."
SHOWN = 20
PICTURE_BYTES = 2**29
NAME_BYTES = 200
SEED_LIMIT = 2**64
UNFIT = re.compile(r'[<>:"|?*]|^\.|[. ]$')
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
OWN_FILES = ("results.jsonl", "fingerprint.json", ".unfinished", ".lock", "shards")
"""In the folder of the results, beside the pictures."""


@dataclass(frozen=True)
class ManifestRow:
    """One edit.

    Args:
        picture: the source, as it is written in the manifest.
        sets: assignments "NODE.INPUT=VALUE" for this edit alone.
        output: the result's place in the folder of results, without its suffix.
    """

    id: str
    picture: str
    instruction: str | None = None
    seed: int | None = None
    description: str | None = None
    region: str | None = None
    workflow: str | None = None
    output: str = ""
    sets: tuple[str, ...] = ()

    @cached_property
    def target(self) -> str:
        return self.output or self.id

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ManifestRow":
        values = json.loads(text)
        return cls(**{**values, "sets": tuple(values["sets"])})


@dataclass(frozen=True)
class Manifest:
    """The rows, and the folder that their paths start from."""

    folder: Path
    rows: tuple[ManifestRow, ...]

    def place(self, path: str) -> Path:
        """Where a file of a row is."""
        return self.folder / path


class Problems:
    """Everything that is wrong with a manifest, to be told at once."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    def add(self, where: str, problem: str) -> None:
        self.found.setdefault(problem, []).append(where)

    def raise_any(self, path: Path) -> None:
        """
        Raises:
            ManifestError: there are some.
        """
        if not self.found:
            return
        listed = [_shown(places, problem) for problem, places in list(self.found.items())[:SHOWN]]
        more = len(self.found) - len(listed)
        end = [f"and {more} more."] if more else []
        count = "a problem" if len(self.found) == 1 else f"{len(self.found)} problems"
        raise ManifestError("\n  ".join([f"The manifest {path} has {count}; nothing was started:", *listed, *end]))


def _shown(places: Sequence[str], problem: str) -> str:
    """A column that is missing is one problem, however many rows there are."""
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    return f"{places[0]}{more} {problem}"


def read_manifest(path: Path, instructions: Sequence[str], problems: Problems) -> Manifest:
    """Read and check a manifest.

    Args:
        instructions: for a folder of pictures every picture gets every one; otherwise one for the rows without.

    Raises:
        ManifestError: it cannot be read at all, or has no rows. What is wrong with single rows goes to `problems`.
    """
    pictures = path.is_dir() or path.suffix == SUFFIX
    if not pictures and len(instructions) > 1:
        raise ManifestError(
            "Give one --instruction, for the rows of the manifest that have none; several are for a folder of pictures."
        )
    folder = path if path.is_dir() else path.parent
    found = _times(raw_rows(path), instructions) if pictures else raw_rows(path)
    rows = [row for row in _checked(found, problems) if row is not None]
    if instructions:
        rows = [row if row.instruction else _with_instruction(row, instructions[0]) for row in rows]
    if not rows and not problems.found:
        raise ManifestError(f"The manifest {path} has no rows.")
    _check_pictures(rows, folder, problems)
    return Manifest(folder.absolute(), tuple(rows))


def _times(found: Iterable[RawRow], instructions: Sequence[str]) -> Iterable[RawRow]:
    for where, values in found:
        if len(instructions) < 2 or isinstance(values, str):
            yield where, values
            continue
        for number, instruction in enumerate(instructions, start=1):
            own = {name: f"{values[name]}-{number}" for name in ("id", "output")}
            yield where, {**values, **own, "instruction": instruction}


def _with_instruction(row: ManifestRow, instruction: str) -> ManifestRow:
    return ManifestRow(**{**asdict(row), "instruction": instruction})


def _checked(found: Iterable[RawRow], problems: Problems) -> Iterable[ManifestRow | None]:
    ids: dict[str, str] = {}
    targets: dict[str, str] = {}
    for where, values in found:
        if isinstance(values, str):
            problems.add(where, values)
            continue
        told: list[str] = []
        row = _row(values, told)
        if row is not None:
            told += _wrong_names(row)
            # Windows and macOS take A.png and a.png for one file.
            if (first := ids.setdefault(row.id.casefold(), where)) != where:
                told.append(f"has the id {row.id!r} of {first}; every row needs one of its own")
            elif (first := targets.setdefault(row.target.casefold(), where)) != where:
                told.append(f"would save {row.target!r}, as {first} does")
        for problem in told:
            problems.add(where, problem)
        yield row


def _row(values: Mapping[str, Any], told: list[str]) -> ManifestRow | None:
    """The row with these values; None where it lacks what every row has."""
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    unknown = [name for name in given if name not in COLUMNS and not name.startswith(SET)]
    if unknown:
        told.append(
            f"has columns that are unknown: {', '.join(map(repr, unknown))}. There are {', '.join(COLUMNS)} and "
            "set.NODE.INPUT"
        )
    missing = [name for name in ("id", "picture") if name not in given]
    if missing:
        told.append(f"has no {' and no '.join(missing)}")
        return None
    texts = {name: _text(given[name], name, told) for name in COLUMNS if name in given and name != "seed"}
    sets = tuple(f"{name[len(SET) :]}={json.dumps(value)}" for name, value in given.items() if name.startswith(SET))
    seed = _seed(given["seed"], told) if "seed" in given else None
    output = texts.pop("output", "").removesuffix(".png")
    return ManifestRow(**texts, seed=seed, output=output, sets=sets)


def _text(value: Any, name: str, told: list[str]) -> str:
    whole = isinstance(value, float) and value.is_integer()
    if name == "id" and (isinstance(value, int) or whole) and not isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str):
        told.append(f"has {value!r} as its {name}, which must be a text")
    return str(value)


def _seed(value: Any, told: list[str]) -> int | None:
    text = str(value).strip()
    whole = isinstance(value, float) and math.isfinite(value) and value.is_integer()
    if whole or (not isinstance(value, bool) and re.fullmatch(r"\d{1,20}", text)):
        seed = int(value) if whole else int(text)
        if 0 <= seed < SEED_LIMIT:
            return seed
    told.append(f"has the seed {value!r}, which must be a whole number from 0 to 2^64 - 1")
    return None


def _wrong_names(row: ManifestRow) -> list[str]:
    told: list[str] = []
    if "/" in row.id or "\\" in row.id:
        told.append(f"has the id {row.id!r} with a slash; the column output may name folders")
    elif _unfit(row.id):
        told.append(f"has the id {row.id!r}, which is no name for a file")
    parts = PurePosixPath(row.target).parts
    inside = parts and not row.output.startswith("/") and "\\" not in row.output
    if row.output and (not inside or any(map(_unfit, parts)) or any(part.endswith(".png") for part in parts[:-1])):
        told.append(f"has the output {row.output!r}, which must be a path in the folder of the results, as a/b.png")
    elif parts and parts[0].casefold() in OWN_FILES:
        told.append(f"would save {row.target!r}, a name that is used for the run itself")
    for name in ("picture", "region", "workflow"):
        path = getattr(row, name) or ""
        if not path.isprintable():
            told.append(f"has the {name} {path!r} with a character that is in no file's name")
        elif _leaves_its_folder(path):
            told.append(
                f"has the {name} {path!r} outside the manifest's folder; name it by its whole path if it is meant"
            )
    return told


def _unfit(name: str) -> bool:
    too_long = len(name.encode(errors="replace")) > NAME_BYTES
    return not name or too_long or not name.isprintable() or bool(UNFIT.search(name) or RESERVED.fullmatch(name))


def _leaves_its_folder(path: str) -> bool:
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute():
        return False
    return ".." in PureWindowsPath(path).parts


def _check_pictures(rows: Sequence[ManifestRow], folder: Path, problems: Problems) -> None:
    """Refuse files that are too large. One that is missing is that edit's own failure, unless all are."""
    there = 0
    # One file may be the source of many edits.
    for path in dict.fromkeys(path for row in rows for path in (row.picture, row.region) if path):
        try:
            size = source_size(folder / path)
        except (OSError, ValueError):
            continue
        there += 1
        if size > PICTURE_BYTES:
            problems.add(
                f"The picture {path!r}", f"has {size / 2**30:.1f} GB; at most {PICTURE_BYTES // 2**20} MB are sent"
            )
    if rows and not there:
        problems.add(
            "None of the pictures", f"is there, as {rows[0].picture!r}; their paths start from the folder {folder}"
        )
