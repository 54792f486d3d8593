"""A list of pairs in a file: JSON Lines, JSON or CSV, with the paths of the pictures."""

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

from .columns import PairColumns, values_of
from .listing import Found, ListedPair, PairListing, PairProblem, PictureFile, ProblemKind

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
DELIMITERS = ",;\t"

Line = tuple[str, dict[str, Any] | str]
"""Where it stands, and its values or why it has none."""


def read_manifest(path: Path, within: Path | None = None, instruction: str = "") -> PairListing:
    """The pairs that a file lists. Lines with the same two pictures are one pair with several instructions.

    Args:
        within: only pictures in this folder are read, because lists come from strangers; None: anywhere.
        instruction: for the pairs without one.

    Raises:
        ValueError: it is no such list, or a column is missing.
    """
    lines = list(_lines(path))
    names = dict.fromkeys(name for _, line in lines if isinstance(line, dict) for name in line)
    if not names:
        problem = next((line for _, line in lines if isinstance(line, str)), "it is empty")
        raise ValueError(f"There is no pair in {path.name!r}: {problem}.")
    columns = PairColumns.of(names, repr(path.name), instruction)
    folder = _Folder(path.parent, within)
    rows: dict[str, ListedPair] = {}
    problems: list[PairProblem] = []
    for where, line in lines:
        found = _row(where, line, columns, folder, instruction)
        if isinstance(found, ListedPair):
            found = _joined(where, rows.get(found.id), found)
        if isinstance(found, PairProblem):
            problems.append(found)
        else:
            rows[found.id] = found
    return PairListing(tuple(rows.values()), tuple(problems))


def _joined(where: str, first: ListedPair | None, pair: ListedPair) -> Found:
    """The pair with the instructions that an earlier line has for it."""
    if first is None:
        return pair
    if (first.source, first.edited) != (pair.source, pair.edited):
        return PairProblem(ProblemKind.BAD_ROW, where, f"another pair has the id {pair.id}")
    new = [text for text in pair.instructions if text not in first.instructions]
    if not new:
        return PairProblem(ProblemKind.TWICE, where, pair.id)
    return replace(first, instructions=(*first.instructions, *new))


class _Folder:
    """Where the pictures of a list may be."""

    def __init__(self, folder: Path, within: Path | None) -> None:
        self.folder, self.within = folder, within

    def file(self, name: str) -> PictureFile | None:
        """The file of that name, whether it exists or not; None: it is outside."""
        # Lists that were written on Windows have its separators.
        path = self.folder / (name if Path(name).is_absolute() else PureWindowsPath(name).as_posix())
        if self.within is not None and not _normal(path).is_relative_to(_normal(self.within)):
            return None
        return PictureFile(path, name)


def _normal(path: Path) -> Path:
    # Not resolved: links that the owner of the folder has put there are followed.
    return Path(os.path.abspath(path))


def _row(where: str, line: dict[str, Any] | str, columns: PairColumns, folder: _Folder, instruction: str) -> Found:
    if isinstance(line, str):
        return PairProblem(ProblemKind.BAD_ROW, where, line)
    files: list[PictureFile] = []
    for column, kind in ((columns.source, ProblemKind.NO_SOURCE), (columns.edited, ProblemKind.NO_EDITED)):
        name = line.get(column)
        if not isinstance(name, str) or not name.strip():
            return PairProblem(kind, where, f"{column} is {name!r}")
        file = folder.file(name.strip())
        if file is None:
            return PairProblem(ProblemKind.OUTSIDE, where, name)
        if not _is_file(file.path):
            return PairProblem(kind, where, f"there is no file {name}")
        files.append(file)
    try:
        values = values_of(line, columns, instruction)
    except ValueError as error:
        return PairProblem(ProblemKind.BAD_ROW, where, str(error))
    if not values.instructions:
        return PairProblem(ProblemKind.NO_TEXT, where, files[1].name)
    source, edited = files
    id = values.id or f"{edited.name} from {source.name}"
    return ListedPair(id, source, edited, values.instructions, values.task, values.weight)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        # A name that no file can have.
        return False


def _lines(path: Path) -> Iterator[Line]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name!r} is in another encoding than UTF-8. Save it as UTF-8.") from error
    kind = path.suffix.lower()
    if kind == ".jsonl":
        return _json_lines(text)
    return _json(path.name, text) if kind == ".json" else _csv(text)


def _json_lines(text: str) -> Iterator[Line]:
    # Not splitlines: texts in JSON may hold other characters that it takes for ends of lines.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"line {number}", _mapping(json.loads(line))
            except (ValueError, RecursionError):
                yield f"line {number}", "it is no JSON"


def _json(name: str, text: str) -> Iterator[Line]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name!r} is no JSON: {error}") from error
    if not isinstance(found, list):
        raise ValueError(
            f"{name!r} holds no list of pairs. Write [{{...}}, {{...}}], or one pair a line into a .jsonl file."
        )
    for number, entry in enumerate(found, start=1):
        yield f"entry {number}", _mapping(entry)


def _mapping(entry: Any) -> dict[str, Any] | str:
    return entry if isinstance(entry, dict) else "it has no names for its values"


def _csv(text: str) -> Iterator[Line]:
    header = text.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="")
    try:
        for values in reader:
            where = f"line {reader.line_num}"
            if "" in values:
                yield where, "it has more values than there are columns"
                continue
            # A cell with several lines holds several instructions, as a text file does.
            yield where, {name.strip(): _cell(value) for name, value in values.items()}
    except csv.Error as error:
        yield f"line {reader.line_num}", str(error)


def _cell(value: str | None) -> str | list[str] | None:
    return value.splitlines() if value is not None and "\n" in value.strip() else value
