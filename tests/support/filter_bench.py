"""The early filter without a host: whoever samples and decodes only notes it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from icedit.early_filter.budget import Budget
from icedit.early_filter.judge import Candidate, Choice, JudgeError, Question
from icedit.early_filter.outcome import Finished, Outcome
from icedit.early_filter.plan import Plan, StopEarly
from icedit.early_filter.run import EarlyFilter, PictureSampler
from icedit.early_filter.select import Failure
from icedit.early_filter.stored_preview import Preview

from .judges import ScriptedJudge

NOTHING = torch.empty(0)


class Interrupt(BaseException):
    pass


@dataclass
class Bench(PictureSampler[str]):
    """Samples and decodes by noting it: a seed's picture is grey noise of its own, one step costs one evaluation, and
    what was probed is checked once for each look."""

    plan: Plan
    changed: bool = False
    afresh: bool = True
    looked_at: dict[int, int] = field(default_factory=dict)
    looks_like: dict[int, int] = field(default_factory=dict)
    reached: dict[int, int] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    shown: list[tuple[int, ...]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    totals: list[int] = field(default_factory=list)
    interrupted: bool = False
    interrupts = (Interrupt,)

    def __post_init__(self) -> None:
        self.budget = Budget(self.plan, 1, self.show)

    def probe(self, seed: int, step: int) -> int:
        self.held.add(seed)
        before, self.reached[seed] = self.reached.get(seed, 0), step
        self.looked_at[seed] = self.looked_at.get(seed, 0) + 1
        self.sample(step - before)
        return step - before

    def previews(self, seeds: Sequence[int]) -> list[Candidate]:
        self.shown.append(tuple(seeds))
        return [Preview(seed, picture(self.looks_like.get(seed, seed))) for seed in seeds]

    def finish(self, seed: int) -> Finished[str]:
        steps, checks, changed = self.plan.steps, 0, False
        if self.plan.mode == "resume" and self.reached[seed] < steps:
            checks, changed = 1 if self.changed and self.afresh else self.looked_at[seed], self.changed
        afresh = changed and self.afresh
        done = steps - (self.reached[seed] if self.plan.mode == "resume" and not afresh else 0)
        self.sample(done)
        return Finished(f"sample {seed}", done + checks, steps, checks, changed, afresh)

    def poll(self) -> None:
        if self.interrupted:
            raise Interrupt

    def forget(self, seed: int) -> None:
        self.held.discard(seed)

    def judgement_failed(self, failure: Failure) -> None:
        self.failures.append(failure.error)

    def sample(self, steps: int) -> None:
        for _ in range(steps):
            self.budget.step(NOTHING, NOTHING)

    def show(self, done: int, x0: torch.Tensor, x: torch.Tensor, total: int) -> None:
        if total not in self.totals:
            self.totals.append(total)

    @property
    def done(self) -> int:
        return self.budget.done

    def run(self, *judges: ScriptedJudge, stop_early: bool | StopEarly = False) -> Outcome[str]:
        self.budget.begin_picture(1)
        question = Question(picture(99), "make it red")
        stop = StopEarly() if stop_early is True else stop_early or None
        return EarlyFilter(self.plan, self, judges, question, self.budget, stop).run()


def picture(seed: int) -> torch.Tensor:
    coarse = torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(seed))
    return coarse.repeat_interleave(8, 0).repeat_interleave(8, 1)


def plan(mode="resume", seed=0, candidates=6, probe_steps=4, keep=2, steps=28) -> Plan:
    return Plan(mode, seed, candidates, probe_steps, keep, steps)


def prefer(*order: int):
    """Compares by a fixed order of seeds, best first."""
    return lambda first, second: Choice.FIRST if order.index(first.seed) < order.index(second.seed) else Choice.SECOND


def fails(*_):
    raise JudgeError("Cannot connect to localhost. Is the server running?")
