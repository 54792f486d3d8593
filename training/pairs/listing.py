"""Pairs as their owner lists them, before a picture is opened, and what is wrong with a list."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol, TypeAlias

LISTED = 5
"""Names that are given of each kind of problem."""
LONGEST = 200
"""Characters of one problem's own words."""


class ProblemKind(Enum):
    """What can be wrong with a pair, in words that follow a number."""

    NO_SOURCE = "without the source picture"
    NO_EDITED = "without the edited picture"
    SAME_NAME = "with more than one file of the same name"
    NO_TEXT = "without an instruction"
    BAD_TEXT = "with a text that cannot be read"
    BAD_ROW = "with a line that cannot be used"
    OUTSIDE = "with a file outside the folder that may be read"
    UNREADABLE = "with a picture that cannot be read"
    SIZES = "with pictures of different proportions"
    SAME_PICTURE = "with the very same picture before and after"
    TWICE = "that are there already"


@dataclass(frozen=True)
class PairProblem:
    """Why one pair cannot be used."""

    kind: ProblemKind
    where: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.where} ({self.detail[:LONGEST]})" if self.detail else self.where


class Stored(Protocol):
    """A picture, not read yet."""

    @property
    def name(self) -> str: ...

    def content(self) -> bytes:
        """The bytes of its file.

        Raises:
            OSError: they cannot be read.
        """
        ...


@dataclass(frozen=True)
class PictureFile:
    """A picture in a file of its own."""

    path: Path
    name: str

    def content(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True)
class ListedPair:
    """A pair as it is listed."""

    id: str
    source: Stored
    edited: Stored
    instructions: tuple[str, ...]
    task: str | None = None
    weight: float = 1.0


Found: TypeAlias = ListedPair | PairProblem
"""What became of an entry of a list."""


@dataclass(frozen=True)
class PairListing:
    """All pairs of a folder or a file.

    Attributes:
        notes: what its owner should know, besides what is wrong.
    """

    rows: tuple[ListedPair, ...]
    problems: tuple[PairProblem, ...] = ()
    notes: tuple[str, ...] = ()


def described(problems: Iterable[PairProblem]) -> str:
    """All problems, one line for each kind: how many, and the first of them."""
    of_kind: dict[ProblemKind, list[PairProblem]] = {}
    for problem in problems:
        of_kind.setdefault(problem.kind, []).append(problem)
    return "\n".join(f"- {len(found)} {kind.value}: {_first(found)}" for kind, found in of_kind.items())


def _first(problems: list[PairProblem]) -> str:
    more = len(problems) - LISTED
    return "; ".join(map(str, problems[:LISTED])) + (f"; and {more} more" if more > 0 else "")


def cleaned(texts: Iterable[str]) -> tuple[str, ...]:
    """Instructions without blanks around and within them, none twice, none empty."""
    return tuple(dict.fromkeys(text for text in (" ".join(text.split()) for text in texts) if text))
