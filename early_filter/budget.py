"""The sampling steps of one run of the node: how many are done, and how many there are at most."""

from collections.abc import Callable

from torch import Tensor

from .plan import Plan

ShowStep = Callable[[int, Tensor, Tensor, int], None]
"""Shows a step in a progress bar: its number, the predicted latent, the noisy latent, and the number of all steps."""


class Budget:
    """Counts the steps of all candidates of all pictures. A seed is sampled once for each row of its picture; a
    picture has several rows when it is cut into tiles."""

    def __init__(self, plan: Plan, rows: int, show: ShowStep) -> None:
        """`rows`: of all pictures together."""
        self._plan, self._show = plan, show
        self._rows, self._later_rows = 0, rows
        self.done, self.total = 0, rows * plan.most_steps

    def begin_picture(self, rows: int) -> None:
        """The next picture is filtered, which has so many rows."""
        self._rows, self._later_rows = rows, self._later_rows - rows

    def candidates_left(self, candidates: int, looks_done: int) -> None:
        """So many of the picture's candidates are left after so many looks, which may be fewer than planned."""
        here = self._rows * self._plan.remaining(looks_done, candidates)
        self.total = self.done + here + self._later_rows * self._plan.most_steps

    def expect(self, steps: int) -> None:
        """So many steps of all rows are still to be done."""
        self.total = self.done + steps

    def repeat(self, steps: int) -> None:
        """So many steps have to be done once more."""
        self.total += steps

    def step(self, x0: Tensor, x: Tensor) -> None:
        """One more step is done; `x0` is the predicted latent, `x` the noisy one."""
        self._show(self.done, x0, x, self.total)
        self.done += 1
