"""How much of each model evaluation is computed: all of it, the open tokens, or nothing."""

import math
from dataclasses import dataclass
from enum import StrEnum

SAME = 1e-4
"""Relative difference up to which two noise levels are the same: samplers compute some, to other last bits."""
MOST_LEFT_OUT = 4
"""Evaluations in a row: so far a forecast was checked."""


class Extent(StrEnum):
    """How much of a model evaluation is computed."""

    FULL = "full"
    SHORT = "short"
    LEFT_OUT = "left out"


class Unchanged(StrEnum):
    """Which tokens are known: those that the noise mask keeps, or also those that the edit does not touch."""

    MASKED = "masked"
    FOUND = "masked and unchanged"


@dataclass(frozen=True)
class ReuseSettings:
    """What the user set. `refresh_every` 1 computes every step in full; `skip_steps` is the error, as a share of the
    result, up to which evaluations are left out, and 0 leaves none out; `in_8_bits` keeps tokens in half the memory.

    Raises:
        ValueError: a number out of range.
    """

    refresh_every: int = 6
    first_steps: int = 4
    unchanged: Unchanged = Unchanged.MASKED
    skip_steps: float = 0.0
    in_8_bits: bool = False

    def __post_init__(self) -> None:
        for name, value in (("refresh_every", self.refresh_every), ("first_steps", self.first_steps)):
            if value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more.")
        if not 0 <= self.skip_steps < math.inf:
            raise ValueError(
                f"skip_steps is {self.skip_steps}, expected a share such as 0.003. 0 leaves no evaluation out."
            )

    @property
    def idle(self) -> bool:
        """Nothing is to be saved."""
        return self.refresh_every == 1 and not self.skip_steps


class Control:
    """Decides for each evaluation of one sampling run, in the order in which the sampler asks for them.

    What counts are the sampler's steps, known by their noise levels, and not its evaluations, of which some samplers
    need several a step: keys and values of known tokens grow old with the noise level.
    """

    def __init__(self, settings: ReuseSettings, sigmas: list[float]) -> None:
        self._settings, self._sigmas = settings, sigmas
        self._refreshed: float | None = None
        self._last = math.inf
        self._error, self._left_out = 0.0, 0

    def step(self, sigma: float) -> int:
        """The step of the schedule that a noise level belongs to."""
        return max(0, sum(sigma <= start * (1 + SAME) for start in self._sigmas[:-1]) - 1)

    def extent(self, sigma: float, expected_error: float = math.inf) -> Extent:
        """How to compute the next evaluation, at this noise level, where a forecast is expected to be so far off."""
        if sigma > self._last * (1 + SAME):
            # The sampler went back.
            self._refreshed = None
        self._last = sigma
        # What the edit does not touch is part of the result, so the last step computes it.
        ends = self._settings.unchanged is Unchanged.FOUND and self.step(sigma) == self.step(0.0)
        if not ends and self._spares(sigma, expected_error):
            return Extent.LEFT_OUT
        self._error, self._left_out = 0.0, 0
        if self._refreshed is None or ends:
            return Extent.FULL
        early = self.step(sigma) < self._settings.first_steps and abs(sigma - self._refreshed) > SAME * sigma
        old = self.step(sigma) - self.step(self._refreshed) >= self._settings.refresh_every
        return Extent.FULL if early or old else Extent.SHORT

    def settling(self, sigma: float) -> bool:
        """Whether the first steps are nearly over: from here on what the edit touches can be seen."""
        return self.step(sigma) >= self._settings.first_steps - 1

    def refreshed(self, sigma: float) -> None:
        """The known tokens' keys and values were computed at this noise level."""
        self._refreshed = sigma

    def _spares(self, sigma: float, expected_error: float) -> bool:
        """Adds up what the evaluations left out in a row do to the result: a step takes over its share of it."""
        if sigma <= 0 or self.step(sigma) < self._settings.first_steps or self._left_out >= MOST_LEFT_OUT:
            return False
        below = max((other for other in self._sigmas if other < sigma * (1 - SAME)), default=0.0)
        error = self._error + expected_error * (sigma - below) / sigma
        if not error < self._settings.skip_steps:
            return False
        self._error, self._left_out = error, self._left_out + 1
        return True
