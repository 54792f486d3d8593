"""Which attention values are kept, where they are, and how they get into a diptych's left panel."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

Block = tuple[str, int]
"""A transformer block by kind ("double" or "single") and number within its kind."""

GIGABYTE = 10**9


@dataclass(frozen=True)
class ValuePlan:
    """What is kept: the values of the first `steps` sampling steps in `blocks`, in the order of the model's blocks."""

    steps: int
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, steps: int, blocks: Sequence[Block], step_share: float, block_share: float) -> "ValuePlan":
        """The first share of the steps and the last share of the blocks; a share above 0 is at least one of them.

        Raises:
            ValueError: a share outside 0..1.
        """
        kept_steps, kept_blocks = _part("step_share", step_share, steps), _part("block_share", block_share, len(blocks))
        if not kept_steps or not kept_blocks:
            return cls(0, ())
        return cls(kept_steps, tuple(blocks[len(blocks) - kept_blocks :]))

    @property
    def positions(self) -> dict[Block, int]:
        return {block: index for index, block in enumerate(self.blocks)}

    def nbytes(self, tokens: int, width: int, dtype: torch.dtype) -> int:
        """Memory for one picture of so many tokens of `width` numbers."""
        return self.steps * len(self.blocks) * tokens * width * dtype.itemsize

    def check(self, nbytes: int, limit: float) -> None:
        """Refuse to keep more than `limit` gigabytes.

        Raises:
            ValueError: with what to change, also when the limit is no number.
        """
        if not 0 <= limit < math.inf:
            raise ValueError(f"memory_limit is {limit}, expected a number of gigabytes, for example 4.")
        if nbytes > limit * GIGABYTE:
            raise ValueError(
                f"The attention values of {self.steps} steps in {len(self.blocks)} blocks would take "
                f"{nbytes / GIGABYTE:.2f} GB of memory, and memory_limit is {limit:g} GB. Lower step_share or "
                "block_share, make the panels smaller, or raise memory_limit if the computer has that much to spare."
            )


def _part(name: str, share: float, count: int) -> int:
    if not 0 <= share <= 1:
        raise ValueError(f"{name} is {share}, expected 0 to 1.")
    # A fraction, so that a third of 57 is 19 however the third was rounded by the page.
    return max(1, round(Fraction(share).limit_denominator(1000) * count)) if share else 0


@dataclass(frozen=True)
class TokenGrid:
    """A picture's tokens, `rows` by `columns`, of which the first `panel` columns are the left panel."""

    rows: int
    columns: int
    panel: int

    def take(self, values: Tensor, text: int) -> Tensor:
        """The panel's part of `b heads (text + rows * columns + other) d` as `b heads rows panel d`."""
        return self._picture(values, text)[..., : self.panel, :]

    def put(self, values: Tensor, text: int, panels: Sequence[Tensor]) -> Tensor:
        """`values` with the panel's part replaced: row i of the batch by `heads rows panel d` number i."""
        replaced = values.clone(memory_format=torch.contiguous_format)
        view = self._picture(replaced, text)
        for row, panel in enumerate(panels):
            view[row, ..., : self.panel, :] = panel.to(values.dtype)
        return replaced

    def _picture(self, values: Tensor, text: int) -> Tensor:
        picture = values[:, :, text : text + self.rows * self.columns]
        return picture.unflatten(2, (self.rows, self.columns))


Hold = Callable[[Sequence[Tensor]], Tensor]
"""Stacks tensors of one shape into one where it can wait for long."""


@dataclass(frozen=True, eq=False)
class ValueStore:
    """One picture's values: for each kept step `blocks heads rows panel d`, of the activations' dtype."""

    plan: ValuePlan
    hold: Hold
    _steps: dict[int, Tensor] = field(default_factory=dict)

    def wants(self, step: int) -> bool:
        return step < self.plan.steps

    def keep(self, step: int, values: Sequence[Tensor]) -> None:
        """Keep a step's values: for each block of the plan `heads rows panel d`."""
        self._steps[step] = self.hold(values)

    def at(self, step: int) -> Tensor | None:
        return self._steps.get(step)

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for values in self._steps.values())

    @property
    def dtype(self) -> torch.dtype | None:
        return next((values.dtype for values in self._steps.values()), None)
