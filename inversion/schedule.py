"""The noise levels that a picture is inverted along, which are those that it is sampled along afterwards."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from torch import Tensor

SAME_LEVEL = 1e-4


@dataclass(frozen=True, eq=False)
class Schedule:
    """Sigmas `steps + 1` as a sampler takes them, from noise down to 0. Step i is evaluated at sigma i.

    Raises:
        ValueError: no steps, or sigmas that do not fall all the way to 0.
    """

    sigmas: Tensor
    _levels: list[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        levels = self.sigmas.tolist()
        if len(levels) < 2:
            raise ValueError(
                "The schedule has no steps, so there is nothing to invert. Set steps to at least 1 and denoise above 0."
            )
        # Every comparison with NaN is false.
        if levels[-1] != 0 or not all(low < high for high, low in pairwise(levels)):
            raise ValueError(
                f"The sigmas run from {levels[0]:.4g} to {levels[-1]:.4g}, expected falling ones that end at 0: the "
                "inversion starts at the picture itself. Connect the whole schedule, not a part of it."
            )
        object.__setattr__(self, "_levels", levels)

    @property
    def steps(self) -> int:
        return len(self._levels) - 1

    @property
    def start(self) -> float:
        """Where sampling starts and the inversion ends."""
        return self._levels[0]

    @cached_property
    def ascending(self) -> list[tuple[int, float, float]]:
        """Each step with its lower and upper sigma, from the picture to the noise."""
        return [(step, self._levels[step + 1], self._levels[step]) for step in reversed(range(self.steps))]

    def nearest(self, sigma: float) -> tuple[int, bool]:
        """The step whose level is nearest to `sigma`, and whether it is that very level."""
        step = min(range(self.steps), key=lambda index: abs(self._levels[index] - sigma))
        return step, abs(self._levels[step] - sigma) <= SAME_LEVEL

    def as_noise(self, state: Tensor, source: Tensor) -> Tensor:
        """The noise from which a sampler of a flow model starts in `state`, given `source` to add noise to."""
        return state if self.start == 1 else (state - (1 - self.start) * source) / self.start
