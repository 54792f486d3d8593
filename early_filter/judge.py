"""The interface of judges: the question, the candidates, and the verdicts. A new judge is one file in `judges/` and
one node."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

Poll = Callable[[], None]
"""Called often while judging; raises when the user interrupts."""


@dataclass(frozen=True)
class Question:
    """What edits are judged by: the source `h w 3` in 0..1, the instruction, and where it may change (`h w`)."""

    source: Tensor
    instruction: str
    region: Tensor | None = None


@dataclass(frozen=True)
class Candidate:
    """One candidate's preview: the edited picture `h w 3` in 0..1, of a diptych also the left panel as redrawn."""

    seed: int
    panel: Tensor
    left: Tensor | None = None


@dataclass(frozen=True)
class Verdict:
    """A judge's opinion of one edit.

    Attributes:
        score: higher is better, comparable between the edits of one call; None: no opinion.
        broken: the edit is useless whatever its score (nothing changed, flat, NaN).
        passed: whether every check was passed, so that no further candidate is needed; None without an answer to them.
        reasons: for people.
        answers: what a language model said, word for word.
    """

    score: float | None = None
    broken: bool = False
    passed: bool | None = None
    reasons: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


class Choice(Enum):
    FIRST = "first"
    SECOND = "second"
    TIE = "tie"
    ABSTAIN = "abstain"


@dataclass(frozen=True)
class Preference:
    """A judge's choice between two edits, with its reasons and a language model's answers word for word."""

    choice: Choice
    reasons: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class JudgeCost:
    """What judging takes at most: questions to a model, and about how many tokens it reads and writes for them."""

    questions: int = 0
    read: int = 0
    written: int = 0

    def __add__(self, other: "JudgeCost") -> "JudgeCost":
        return JudgeCost(self.questions + other.questions, self.read + other.read, self.written + other.written)


class JudgeError(RuntimeError):
    """A judge could not give a verdict: no connection, an unreadable answer, no memory. Says what happened and what to
    do."""


class Judge(ABC):
    """Scores edits, compares them, or both; by default it abstains from each.

    Selection asks for scores first; edits that score the same, or that the judge did not score, are then compared pair
    by pair. Any exception but an interrupt counts as a failed judgement and never ends the run.
    """

    compares: bool = False
    """Whether `compare` can return anything but ABSTAIN."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of this judge in reports."""

    @property
    def reads_instruction(self) -> bool:
        """Whether its verdicts depend on the instruction; such a judge needs one."""
        return True

    @property
    def makes_checks(self) -> bool:
        """Whether its verdicts can say that an edit passed; only such a judge can stop a run early."""
        return False

    def cost(self, question: Question, edits: int, keep: int) -> JudgeCost:  # noqa: ARG002
        """What a look at so many edits takes at most, of which `keep` go on; nothing where no model is asked."""
        return JudgeCost()

    def score(self, question: Question, edits: Sequence[Candidate], poll: Poll) -> list[Verdict]:  # noqa: ARG002
        """One verdict for each edit, in order."""
        return [Verdict() for _ in edits]

    def compare(self, question: Question, first: Candidate, second: Candidate, poll: Poll) -> Preference:  # noqa: ARG002
        """Which of two edits is better."""
        return Preference(Choice.ABSTAIN)
