"""What all benchmarks share: an edit to make, what is wrong with their files, and what a benchmark has to say."""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

ENGLISH, CHINESE, ALL = "en", "cn", "all"
NAME = re.compile(r"[\w-][\w.-]{0,150}")
SHOWN = 5


class FaultError(ValueError):
    """What is wrong with one row of a benchmark; the row is named, counted and left out."""


class BenchmarkError(ValueError):
    """A benchmark as a whole cannot be read; the message says why and what to do."""


@dataclass(frozen=True)
class FieldEdit:
    """One edit of a benchmark.

    Args:
        id: of its own among the benchmark's edits, and fit for a file's name.
        picture: the source.
        task: the benchmark's own name for this kind of edit.
        place: of the result among the results, as the scorer looks for it.
        mask: white where the edit may change the picture.
        description: what the source shows.
        truth: the wanted picture.
        after: the id of the edit whose result is the source instead; that edit has an earlier turn.
        sample: what belongs together, and is of use to the scorer as a whole only; the edit alone where empty.
        groups: of which means are taken; the task where empty.
    """

    id: str
    picture: Path
    instruction: str
    task: str
    place: PurePosixPath
    language: str = ENGLISH
    mask: Path | None = None
    description: str | None = None
    truth: Path | None = None
    turn: int = 1
    after: str | None = None
    sample: str = ""
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.id):
            raise FaultError(f"has the key {self.id[:80]!r}, which is no name for a file")
        if not self.instruction.strip():
            raise FaultError("has no instruction")
        if self.place.is_absolute() or ".." in self.place.parts:
            raise FaultError(f"would be saved outside the results, at {self.place}")
        if (self.turn == 1) != (self.after is None):
            raise ValueError("the first turn has no earlier edit, every later one has")

    @property
    def whole(self) -> str:
        return self.sample or self.id

    @property
    def means(self) -> tuple[str, ...]:
        return self.groups or (self.task,)


@dataclass
class Faults:
    """What is wrong with a benchmark's files, counted by kind."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, where: str, problem: str) -> None:
        self.found.setdefault(problem, []).append(where)

    @property
    def count(self) -> int:
        return sum(map(len, self.found.values()))

    def lines(self) -> list[str]:
        """A line for each kind, with the first places."""
        lines = []
        for problem, places in self.found.items():
            more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
            lines.append(f"{len(places)} x {problem}: {', '.join(places[:SHOWN])}{more}")
        return lines


@dataclass(frozen=True)
class Setting:
    """What a reader is told.

    Args:
        path: of the benchmark's files.
        sources: a folder for pictures that it holds inside tables.
        method: the name that the results get.
        pictures: the folder of the pictures, where it is not beside the list of edits.
    """

    path: Path
    sources: Path
    method: str
    faults: Faults
    language: str = ENGLISH
    pictures: Path | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.method):
            raise BenchmarkError(f"The method {self.method!r} is no name for a folder.")
        if re.match("https?:/", str(self.path)):
            # It may hold a password.
            raise BenchmarkError("Name the benchmark's files right after its name, before all options.")
        if not self.path.exists():
            raise BenchmarkError(f"There is no {self.path}. Name the benchmark's files as they were downloaded.")


class FieldBenchmark(ABC):
    """A published benchmark.

    Attributes:
        tasks: that its scorer knows; None where it takes all.
    """

    name: str
    tasks: frozenset[str] | None = None

    @abstractmethod
    def read(self, setting: Setting) -> Iterator[FieldEdit]:
        """The edits; what is wrong with single rows goes to the setting's faults.

        Raises:
            BenchmarkError: it is not this benchmark.
        """

    @abstractmethod
    def write(self, edit: FieldEdit, result: Path, results: Path) -> Path:
        """Put a result where the scorer looks for it, with what else it reads there; its file.

        Raises:
            FaultError: a picture cannot be read.
        """

    def measures(self, edit: FieldEdit, file: Path) -> Mapping[str, float]:  # noqa: ARG002
        """What the benchmark's own evaluation computes of a written result without any model."""
        return {}

    @abstractmethod
    def scorer(self, setting: Setting, results: Path) -> str:
        """How its public scorer is run on the results."""

    def whole(self, edits: Sequence[FieldEdit], made: Collection[str]) -> list[FieldEdit]:
        """Those edits whose samples are made as a whole."""
        lacking = {edit.whole for edit in edits if edit.id not in made}
        return [edit for edit in edits if edit.whole not in lacking]

    def check_task(self, task: str) -> None:
        if self.tasks is not None and task not in self.tasks:
            raise FaultError(f"has the task {task!r}, which the scorer does not know")
