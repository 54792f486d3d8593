"""Which seeds run how far: looks and sampling steps."""

import math
from dataclasses import dataclass
from typing import Literal

Mode = Literal["resume", "paper"]

WhenChanged = Literal["run afresh", "resume"]
"""What becomes of a winner whose model no longer gives the outputs that it gave while probing."""

SEEDS = 2**64
"""Seeds are unsigned 64-bit numbers; counting on from the last one starts again at 0."""

PAPER_STEPS = 10
"""Steps that the paper gives each candidate in its main result (section 3.3)."""


@dataclass(frozen=True)
class Look:
    """A judgement of all candidates that are left, after `step` steps; at most `keep` of them go on."""

    step: int
    keep: int


@dataclass(frozen=True)
class StopEarly:
    """Candidates are probed one by one, only while none is good enough: it passes every check of the first judge, or
    has at least `pass_score` on that judge's scale. 0: only checks count.

    Raises:
        ValueError: the score is negative or not finite.
    """

    pass_score: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.pass_score < math.inf:
            raise ValueError(
                f"pass_score is {self.pass_score}, expected a score on your judge's own scale, or 0 for checks only."
            )


@dataclass(frozen=True)
class Plan:
    """How many candidates run how far.

    Attributes:
        mode: "resume" looks into the real schedule and goes on from there; "paper" runs every candidate through a
            short schedule of its own and afterwards the winner from its start (paper section 3.3).
        seed: of the first candidate; the others count on from it.
        candidates: how many seeds are tried.
        probe_steps: steps before a candidate is judged for the first time.
        keep: how many are kept at most for a second look after twice as many steps; mode "resume" only.
        steps: steps of the whole schedule.

    Raises:
        ValueError: numbers that do not fit together.
    """

    mode: Mode
    seed: int
    candidates: int
    probe_steps: int
    keep: int
    steps: int

    def __post_init__(self) -> None:
        if self.mode not in ("resume", "paper"):
            raise ValueError(f"mode is {self.mode!r}, expected 'resume' or 'paper'.")
        for name in ("candidates", "probe_steps", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1.")
        if self.steps < 1:
            raise ValueError(
                "The schedule has no steps, so there is nothing to filter. Set steps to at least 1 and denoise above 0."
            )
        if self.probe_steps > self.steps:
            raise ValueError(
                f"probe_steps is {self.probe_steps}, but the schedule has only {self.steps} steps. Lower probe_steps "
                "(4 of 28 is a good start) or raise steps."
            )

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple((self.seed + index) % SEEDS for index in range(self.candidates))

    @property
    def looks(self) -> tuple[Look, ...]:
        """The looks in order. Where keeping all candidates would make the first one pointless, it is left out."""
        first, second = self.probe_steps, min(2 * self.probe_steps, self.steps)
        keep = min(self.keep, self.candidates)
        if self.mode == "paper" or keep == 1 or first == self.steps:
            return (Look(first, 1),)
        if keep == self.candidates:
            return (Look(second, 1),)
        return (Look(first, keep), Look(second, 1))

    def remaining(self, looks_done: int, candidates: int) -> int:
        """Steps that are still to be computed, at most, when `candidates` are left after so many looks."""
        done = self.looks[looks_done - 1].step if looks_done else 0
        total = 0
        for look in self.looks[looks_done:]:
            total += candidates * (look.step - done)
            done, candidates = look.step, min(candidates, look.keep)
        return total + (self.steps if self.mode == "paper" else self.steps - done)

    @property
    def most_steps(self) -> int:
        """Steps of the whole run at most; none is computed twice in mode "resume"."""
        return self.remaining(0, self.candidates)

    @property
    def checks(self) -> int:
        """Model evaluations that a winner of the last look costs more, to see whether the model still gives the
        outputs that it gave before each look."""
        whole = self.looks[0].step == self.steps
        return 0 if self.mode == "paper" or whole else len(self.looks)

    @property
    def most_evaluations(self) -> int:
        """Model evaluations of the whole run at most, for samplers that need one for each step and models that compute
        as before."""
        return self.most_steps + self.checks

    @property
    def least_evaluations(self) -> int:
        """Model evaluations of a run that stops early at its first candidate, by the same reckoning."""
        if self.mode == "paper":
            return self.most_evaluations
        return self.steps + (self.looks[0].step < self.steps)
