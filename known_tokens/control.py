"""When a model evaluation is computed in full."""

from dataclasses import dataclass
from enum import StrEnum


class Extent(StrEnum):
    """How much of a model evaluation is computed."""

    FULL = "full"
    SHORT = "short"


@dataclass(frozen=True)
class ReuseSettings:
    """What the user set. `refresh_every` 1 computes every step in full.

    Raises:
        ValueError: a number out of range.
    """

    refresh_every: int = 6
    first_steps: int = 4

    def __post_init__(self) -> None:
        for name, value, least in (("refresh_every", self.refresh_every, 1), ("first_steps", self.first_steps, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}, expected {least} or more.")


class Control:
    """Decides for each evaluation of one sampling run, in the order in which the sampler asks for them.

    What counts are the sampler's steps, known by their noise levels, and not its evaluations, of which some samplers
    need several a step: keys and values of known tokens grow old with the noise level.
    """

    def __init__(self, settings: ReuseSettings, sigmas: list[float]) -> None:
        self._settings, self._sigmas = settings, sigmas
        self._refreshed: float | None = None

    def step(self, sigma: float) -> int:
        """The step of the schedule that a noise level belongs to."""
        # Samplers compute some noise levels, which then differ in the last bits from the schedule's.
        return max(0, sum(sigma <= start * (1 + 1e-4) for start in self._sigmas) - 1)

    def extent(self, sigma: float) -> Extent:
        """How to compute the next evaluation, at this noise level."""
        if self._refreshed is None or sigma > self._refreshed * (1 + 1e-4):
            # The first one, or the sampler went back.
            return Extent.FULL
        step, age = self.step(sigma), self.step(sigma) - self.step(self._refreshed)
        early = step < self._settings.first_steps and sigma != self._refreshed
        return Extent.FULL if early or age >= self._settings.refresh_every else Extent.SHORT

    def refreshed(self, sigma: float) -> None:
        """The known tokens' keys and values were computed at this noise level."""
        self._refreshed = sigma
