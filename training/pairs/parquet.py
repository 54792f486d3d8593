"""Tables with the pictures inside, as data sets are published."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .columns import PairColumns, values_of
from .listing import Found, ListedPair, PairListing, PairProblem, ProblemKind

SUFFIX = ".parquet"
BYTES = "bytes"
"""The field of a picture in the layout of published data sets: `{"bytes": ..., "path": ...}`."""


def read_tables(paths: Sequence[Path], instruction: str = "") -> PairListing:
    """The pairs of one or more tables; their pictures are read later, row by row.

    Raises:
        ValueError: pyarrow is missing, a file is no such table, or a column is missing.
    """
    rows, problems = [], []
    for path in paths:
        for found in _rows(_Table.of(path, instruction), instruction):
            (problems if isinstance(found, PairProblem) else rows).append(found)
    return PairListing(tuple(rows), tuple(problems))


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture in a row of a table."""

    table: "_Table"
    group: int
    row: int
    column: str
    name: str

    def content(self) -> bytes:
        return self.table.picture(self.group, self.row, self.column)


@dataclass
class _Table:
    """An open table. Its rows lie in groups that are read as a whole: the last one is kept."""

    path: Path
    columns: PairColumns
    file: Any
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: tuple[int, Any] | None = None

    @classmethod
    def of(cls, path: Path, instruction: str) -> "_Table":
        if find_spec("pyarrow") is None:
            raise ValueError(
                f"{path.name!r} needs the Python package pyarrow, which is not installed here. Install it (python -m "
                "pip install pyarrow, with ComfyUI's Python for its nodes), or use folders or a .jsonl list."
            )
        parquet = import_module("pyarrow.parquet")
        try:
            file = parquet.ParquetFile(path)
        # Its own errors are ValueErrors and OSErrors.
        except (ValueError, OSError) as error:
            raise ValueError(f"{path.name!r} is no parquet table that can be read: {error}") from error
        return cls(path, PairColumns.of(file.schema_arrow.names, repr(path.name), instruction), file)

    def groups(self) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """The number of each group, and its rows without their pictures."""
        columns = [name for name in self.columns.used() if name not in (self.columns.source, self.columns.edited)]
        for group in range(self.file.num_row_groups):
            count = self.file.metadata.row_group(group).num_rows
            yield group, self.file.read_row_group(group, columns=columns).to_pylist() if columns else [{}] * count

    def picture(self, group: int, row: int, column: str) -> bytes:
        with self._lock:
            if self._held is None or self._held[0] != group:
                # Let go of the old one first: a group may take hundreds of megabytes.
                self._held = None
                pictures = [self.columns.source, self.columns.edited]
                self._held = (group, self.file.read_row_group(group, columns=pictures))
            value = self._held[1][column][row].as_py()
        content = value.get(BYTES) if isinstance(value, dict) else value
        if not isinstance(content, bytes) or not content:
            raise OSError(f"{column} holds no picture")
        return content


def _rows(table: _Table, instruction: str) -> Iterator[Found]:
    number = 0
    for group, values in table.groups():
        for index, row in enumerate(values):
            number += 1
            name = f"{table.path.stem} row {number}"
            try:
                said = values_of(row, table.columns, instruction)
            except ValueError as error:
                yield PairProblem(ProblemKind.BAD_ROW, name, str(error))
                continue
            if not said.instructions:
                yield PairProblem(ProblemKind.NO_TEXT, name)
                continue
            source, edited = (
                EmbeddedPicture(table, group, index, column, f"{column} of {name}")
                for column in (table.columns.source, table.columns.edited)
            )
            yield ListedPair(name, source, edited, said.instructions, said.task, said.weight)
