"""What came of a run of the early filter, for one picture."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from .judge import Candidate
from .plan import Plan, StopEarly
from .select import Failure, Ranking

Result = TypeVar("Result")


@dataclass(frozen=True)
class Finished(Generic[Result]):
    """A seed that was sampled to its end.

    Attributes:
        evaluations: of the model, done for finishing.
        full_run: model evaluations of one whole run of this seed.
        checks: how many of `evaluations` repeated a recorded one, to compare the model's output with it.
        changed: such an output was not the recorded one.
        afresh: so the seed was run again from its first step, instead of going on from what was probed.
    """

    result: Result
    evaluations: int
    full_run: int
    checks: int = 0
    changed: bool = False
    afresh: bool = False

    @property
    def exact(self) -> bool:
        """Whether one uninterrupted run of this seed gives this result."""
        return self.afresh or not self.changed


@dataclass(frozen=True)
class LookResult:
    """One look: which seeds were judged, which of them look like an earlier one (`twins`), how they were ranked, and
    which were kept."""

    step: int
    seeds: tuple[int, ...]
    twins: dict[int, int]
    ranking: Ranking
    kept: tuple[int, ...]

    @property
    def open(self) -> bool:
        """Whether a choice was needed: of the seeds that look different not all were kept."""
        return len(self.seeds) - len(self.twins) > len(self.kept)


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """The winner and how it was found.

    Attributes:
        failures: judgements that failed, each with the step of its look.
        previews: each probed seed's latest preview.
        stop_early: the rule by which the run could stop early, None where it was not to.
        stopped_early: the winner was good enough by it, before all candidates had been tried.
        evaluations: of the model, by seed, probing and finishing together.
        work: what they took, in evaluations in full: less than their number where the model leaves parts of them out.
        seconds: spent in "sampling", "decoding", "judging".
    """

    plan: Plan
    winner: int
    finished: Finished[Result]
    looks: tuple[LookResult, ...]
    failures: tuple[tuple[int, Failure], ...]
    previews: dict[int, Candidate]
    stopped_early: bool
    evaluations: dict[int, int]
    work: float
    seconds: dict[str, float]
    stop_early: StopEarly | None = None

    @property
    def result(self) -> Result:
        return self.finished.result

    @property
    def exact(self) -> bool:
        """Whether one uninterrupted run of the winner's seed gives this result."""
        return self.finished.exact

    @property
    def filtered(self) -> bool:
        """Whether a judge's opinion decided."""
        return any(look.ranking.judge is not None for look in self.looks)
