"""Runs a plan: probes candidates, has their previews judged, drops the losers, finishes the winner."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from .judge import Candidate, Judge, Poll, Question
from .plan import Look, Plan
from .select import GIVE_UP, Failure, Hearing, Interrupts, Ranking, rank
from .similar import duplicates

Result = TypeVar("Result")


@dataclass(frozen=True)
class Finished(Generic[Result]):
    """A seed at its end.

    Attributes:
        evaluations: of the model, done for finishing.
        full_run: model evaluations of one whole run of this seed.
        checks: how many of `evaluations` the model was asked although the answer was known, to compare it.
        changed: the model did not answer as it had while probing.
        afresh: so the seed was run again from its first step, instead of going on from what was probed.
    """

    result: Result
    evaluations: int
    full_run: int
    checks: int = 0
    changed: bool = False
    afresh: bool = False


@dataclass(frozen=True)
class Work(Generic[Result]):
    """What the run needs from whoever can sample.

    Attributes:
        probe: sample a seed as far as a step; answers the model evaluations this took.
        show: decode the latest previews of these seeds, in order.
        finish: sample a seed to its end.
        forget: a seed is out; free what is held for it.
        expect: told how many steps are still to come at most, whenever that changes.
        failed: told of every failed judgement, to log it and to free memory.
        poll: raises when the user interrupts.
        interrupts: exceptions that mean an interrupt.
    """

    probe: Callable[[int, int], int]
    show: Callable[[Sequence[int]], list[Candidate]]
    finish: Callable[[int], Finished[Result]]
    forget: Callable[[int], None]
    expect: Callable[[int], None]
    failed: Callable[[Failure], None]
    poll: Poll
    interrupts: Interrupts


@dataclass(frozen=True)
class Seen:
    """One look: who was looked at, which of them look like an earlier one, how they were ranked, who went on."""

    step: int
    seeds: tuple[int, ...]
    twins: dict[int, int]
    ranking: Ranking
    kept: tuple[int, ...]

    @property
    def open(self) -> bool:
        """Whether somebody had to choose: of those that look different not everybody went on."""
        return len(self.seeds) - len(self.twins) > len(self.kept)


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """The winner and how it was found.

    Attributes:
        failures: judgements that failed, each with the step of its look.
        previews: each probed seed's latest preview.
        stopped_early: the winner passed every check before all candidates had been tried.
        evaluations: of the model, by seed, probing and finishing together.
        seconds: spent in "sampling", "decoding", "judging".
    """

    plan: Plan
    winner: int
    finished: Finished[Result]
    looks: tuple[Seen, ...]
    failures: tuple[tuple[int, Failure], ...]
    previews: dict[int, Candidate]
    stopped_early: bool
    evaluations: dict[int, int]
    seconds: dict[str, float]

    @property
    def result(self) -> Result:
        return self.finished.result

    @property
    def exact(self) -> bool:
        """Whether one uninterrupted run of the winner's seed gives this result."""
        return self.finished.afresh or not self.finished.changed

    @property
    def filtered(self) -> bool:
        """Whether a judge's opinion decided."""
        return any(look.ranking.judge is not None for look in self.looks)


def run(
    plan: Plan, work: Work[Result], judges: Sequence[Judge], question: Question, stop_early: bool = False
) -> Outcome[Result]:
    """Filter the plan's seeds and finish the winner.

    Args:
        judges: asked in this order; a later one only when those before it had no opinion. When none has one the order
            of the look before stands, at first the order of the seeds.
        stop_early: judge every candidate on its own as soon as it is probed, and stop at the first one that passes
            every check of the first judge. Mode "paper" and judges without checks take no part in this.
    """
    return _Run(plan, work, judges, question, stop_early and plan.mode == "resume").outcome()


class _Run(Generic[Result]):
    def __init__(
        self, plan: Plan, work: Work[Result], judges: Sequence[Judge], question: Question, stop_early: bool
    ) -> None:
        self._plan, self._work, self._judges, self._question = plan, work, judges, question
        self._one_by_one = stop_early and plan.candidates > 1
        self._stopped_early = False
        self._seen: list[Seen] = []
        self._failures: list[tuple[int, Failure]] = []
        self._previews: dict[int, Candidate] = {}
        self._evaluations: dict[int, int] = {}
        self._seconds = {"sampling": 0.0, "decoding": 0.0, "judging": 0.0}

    def outcome(self) -> Outcome[Result]:
        left = self._plan.seeds
        for number, look in enumerate(self._plan.looks):
            self._work.expect(self._plan.remaining(number, len(left)))
            left = self._look(look, left)
            if len(left) == 1:
                break
        winner = left[0]
        self._work.expect(self._plan.remaining(len(self._seen), 1))
        with self._clock("sampling"):
            finished = self._work.finish(winner)
        self._evaluations[winner] += finished.evaluations
        return Outcome(
            self._plan,
            winner,
            finished,
            tuple(self._seen),
            tuple(self._failures),
            self._previews,
            self._stopped_early,
            self._evaluations,
            self._seconds,
        )

    def _look(self, look: Look, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if self._one_by_one:
            passed = self._until_one_passes(look, seeds)
            if passed is not None:
                return self._settle(look, seeds, {}, passed, 1)
        else:
            for seed in seeds:
                self._probe(seed, look.step)
            self._show(seeds)
        edits = [self._previews[seed] for seed in seeds]
        twins = duplicates(edits)
        distinct = [edit for edit in edits if edit.seed not in twins]
        # Where everybody goes on, an opinion would change nothing.
        ranking = self._rank(distinct, look) if len(distinct) > look.keep else Ranking(_seeds(distinct), None)
        return self._settle(look, seeds, twins, ranking, look.keep)

    def _until_one_passes(self, look: Look, seeds: tuple[int, ...]) -> Ranking | None:
        """Probe and judge seeds one by one; the ranking that ends the look, or None when all of them were probed."""
        asking, failed_in_a_row, edits = self._judges[0].makes_checks, 0, []
        for seed in seeds:
            self._probe(seed, look.step)
            edits += self._show([seed])
            if not asking or failed_in_a_row >= GIVE_UP or seed in duplicates(edits):
                continue
            hearing = Hearing(self._judges[0], self._question, self._work.poll, self._work.interrupts)
            with self._clock("judging"):
                hearing.score(edits[-1:])
            verdict = hearing.verdicts[seed]
            self._note(look, hearing.failures)
            if verdict.passed:
                self._stopped_early = True
                return Ranking((seed,), self._judges[0].name, hearing.verdicts)
            failed_in_a_row = failed_in_a_row + 1 if hearing.failures else 0
        return None

    def _rank(self, edits: Sequence[Candidate], look: Look) -> Ranking:
        pairwise, work = self._plan.mode == "paper", self._work
        with self._clock("judging"):
            ranking = rank(self._judges, self._question, edits, look.keep, work.poll, work.interrupts, pairwise)
        self._note(look, ranking.failures)
        return ranking

    def _settle(
        self, look: Look, seeds: tuple[int, ...], twins: dict[int, int], ranking: Ranking, keep: int
    ) -> tuple[int, ...]:
        kept = ranking.order[:keep]
        self._seen.append(Seen(look.step, seeds, twins, ranking, kept))
        for seed in seeds:
            if seed not in kept:
                self._work.forget(seed)
        return kept

    def _probe(self, seed: int, step: int) -> None:
        with self._clock("sampling"):
            self._evaluations[seed] = self._evaluations.get(seed, 0) + self._work.probe(seed, step)

    def _show(self, seeds: Sequence[int]) -> list[Candidate]:
        with self._clock("decoding"):
            edits = self._work.show(seeds)
        self._previews |= {edit.seed: edit for edit in edits}
        return edits

    def _note(self, look: Look, failures: Sequence[Failure]) -> None:
        for failure in failures:
            self._failures.append((look.step, failure))
            self._work.failed(failure)

    @contextmanager
    def _clock(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[what] += time.perf_counter() - start


def _seeds(edits: Sequence[Candidate]) -> tuple[int, ...]:
    return tuple(edit.seed for edit in edits)
