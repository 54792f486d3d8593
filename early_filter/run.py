"""Runs a plan: probes candidates, has their previews judged, drops the losers, finishes the winner."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from .budget import Budget
from .judge import Candidate, Judge, Question, Verdict
from .outcome import Finished, LookResult, Outcome, Result
from .plan import Look, Plan, StopEarly
from .select import GIVE_UP, AskedJudge, Failure, Interrupts, Ranking, rank
from .similar import duplicates
from .stopwatch import Stopwatch


class PictureSampler(ABC, Generic[Result]):
    """What the filter needs from whoever can sample one picture.

    Attributes:
        interrupts: exceptions that mean that the user interrupts.
    """

    interrupts: Interrupts = ()

    @property
    def work(self) -> float | None:
        """What all model evaluations took so far, in evaluations in full; None where this is their number."""
        return None

    @abstractmethod
    def probe(self, seed: int, step: int) -> int:
        """Sample a seed as far as a step; returns the model evaluations that this took."""

    @abstractmethod
    def previews(self, seeds: Sequence[int]) -> list[Candidate]:
        """Decode what these seeds look like at their last probed step, in order."""

    @abstractmethod
    def finish(self, seed: int) -> Finished[Result]:
        """Sample a seed to its end."""

    @abstractmethod
    def forget(self, seed: int) -> None:
        """A seed is out; free what is held for it."""

    @abstractmethod
    def judgement_failed(self, failure: Failure) -> None:
        """Told of every failed judgement, to log it and to free memory."""

    @abstractmethod
    def poll(self) -> None:
        """Raises when the user interrupts."""


@dataclass
class EarlyFilter(Generic[Result]):
    """Filters the plan's seeds for one picture and finishes the winner.

    Attributes:
        judges: asked in this order; a later one only when those before it had no opinion. When none has one the order
            of the look before stands, at first the order of the seeds.
        budget: told how many candidates are left, whenever that changes.
        stop_early: judge every candidate on its own as soon as it is probed, and stop at the first one that is good
            enough for the first judge. Mode "paper" takes no part in this, nor do judges without checks where only
            these count.
    """

    plan: Plan
    sampler: PictureSampler[Result]
    judges: Sequence[Judge]
    question: Question
    budget: Budget
    stop_early: StopEarly | None = None

    def __post_init__(self) -> None:
        self._looks: list[LookResult] = []
        self._failures: list[tuple[int, Failure]] = []
        self._previews: dict[int, Candidate] = {}
        self._stopped_early = False
        self._evaluations = dict.fromkeys(self.plan.seeds, 0)
        self._clock = Stopwatch("sampling", "decoding", "judging")

    def run(self) -> Outcome[Result]:
        """Look after look, until one seed is left; to be called once."""
        left = self.plan.seeds
        for number, look in enumerate(self.plan.looks):
            self.budget.candidates_left(len(left), number)
            left = self._look(look, left)
            if len(left) == 1:
                break
        winner = left[0]
        self.budget.candidates_left(1, len(self._looks))
        with self._clock("sampling"):
            finished = self.sampler.finish(winner)
        self._evaluations[winner] += finished.evaluations
        return Outcome(
            self.plan,
            winner,
            finished,
            tuple(self._looks),
            tuple(self._failures),
            self._previews,
            self._stopped_early,
            self._evaluations,
            sum(self._evaluations.values()) if self.sampler.work is None else self.sampler.work,
            self._clock.seconds,
            self._stopping,
        )

    @property
    def _stopping(self) -> StopEarly | None:
        return self.stop_early if self.plan.mode == "resume" and self.plan.candidates > 1 else None

    def _look(self, look: Look, seeds: tuple[int, ...]) -> tuple[int, ...]:
        """Probe these seeds as far as the look, have them judged, forget the losers; returns those that go on."""
        if (stop := self._stopping) is not None:
            passed = self._until_one_passes(look, seeds, stop)
            if passed is not None:
                return self._keep(look, seeds, {}, passed, 1)
        else:
            for seed in seeds:
                self._probe(seed, look.step)
            self._preview(seeds)
        candidates = [self._previews[seed] for seed in seeds]
        twins = duplicates(candidates)
        distinct = [candidate for candidate in candidates if candidate.seed not in twins]
        # Where all go on, an opinion would change nothing.
        ranking = self._rank(distinct, look) if len(distinct) > look.keep else Ranking(_seeds(distinct), None)
        return self._keep(look, seeds, twins, ranking, look.keep)

    def _until_one_passes(self, look: Look, seeds: tuple[int, ...], stop: StopEarly) -> Ranking | None:
        """Probe and judge seeds one by one; the ranking that ends the look, or None when all of them were probed."""
        asking, failed_in_a_row, candidates = self.judges[0].makes_checks or stop.pass_score > 0, 0, []
        for seed in seeds:
            self._probe(seed, look.step)
            candidates += self._preview([seed])
            if not asking or failed_in_a_row >= GIVE_UP or seed in duplicates(candidates):
                continue
            asked = self._ask(self.judges[0])
            with self._clock("judging"):
                asked.score(candidates[-1:])
            self._note(look, asked.failures)
            if _good_enough(asked.verdicts[seed], stop):
                self._stopped_early = True
                return Ranking((seed,), self.judges[0].name, asked.verdicts)
            failed_in_a_row = failed_in_a_row + 1 if asked.failures else 0
        return None

    def _rank(self, candidates: Sequence[Candidate], look: Look) -> Ranking:
        with self._clock("judging"):
            ranking = rank(map(self._ask, self.judges), candidates, look.keep, self.plan.mode == "paper")
        self._note(look, ranking.failures)
        return ranking

    def _ask(self, judge: Judge) -> AskedJudge:
        return AskedJudge(judge, self.question, self.sampler.poll, self.sampler.interrupts)

    def _keep(
        self, look: Look, seeds: tuple[int, ...], twins: dict[int, int], ranking: Ranking, count: int
    ) -> tuple[int, ...]:
        kept = ranking.order[:count]
        self._looks.append(LookResult(look.step, seeds, twins, ranking, kept))
        for seed in seeds:
            if seed not in kept:
                self.sampler.forget(seed)
        return kept

    def _probe(self, seed: int, step: int) -> None:
        with self._clock("sampling"):
            self._evaluations[seed] += self.sampler.probe(seed, step)

    def _preview(self, seeds: Sequence[int]) -> list[Candidate]:
        with self._clock("decoding"):
            candidates = self.sampler.previews(seeds)
        self._previews |= {candidate.seed: candidate for candidate in candidates}
        return candidates

    def _note(self, look: Look, failures: Sequence[Failure]) -> None:
        for failure in failures:
            self._failures.append((look.step, failure))
            self.sampler.judgement_failed(failure)


def _good_enough(verdict: Verdict, stop: StopEarly) -> bool:
    scored = 0 < stop.pass_score <= (verdict.score or 0.0) and not verdict.broken
    return scored or verdict.passed is True


def _seeds(candidates: Sequence[Candidate]) -> tuple[int, ...]:
    return tuple(candidate.seed for candidate in candidates)
