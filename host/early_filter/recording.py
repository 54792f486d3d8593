"""What a sampling run recorded of the model: its outputs for one seed, each with a fingerprint of its input."""

from collections.abc import Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..model_cost import FULL

Fingerprint = tuple[int, tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class Recorded:
    """The model's outputs in one evaluation, and the fingerprint of its input.

    `extent`: as in `model_cost`; None where no node leaves anything out.
    """

    input: Fingerprint
    outputs: list[Tensor | None]
    extent: str | None


@dataclass
class Recording:
    """The model's outputs for one seed, and the steps and prediction they led to.

    `ends` are the positions of the last output of each probe: the host loads the model anew for each.
    """

    outputs: list[Recorded] = field(default_factory=list)
    ends: set[int] = field(default_factory=set)
    steps: int = 0
    x0: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """What its tensors take."""
        tensors = [*(tensor for one in self.outputs for tensor in one.outputs), self.x0]
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    @property
    def last_computed_in_full(self) -> int:
        """The position of the last output that builds on no other."""
        extents = [one.extent for one in self.outputs]
        return max((at for at, extent in enumerate(extents) if extent in (None, FULL)), default=len(extents) - 1)

    @property
    def built_on(self) -> Set[int]:
        """The positions to compute once more before the next evaluation can build on them."""
        partial = bool(self.outputs) and self.outputs[-1].extent is not None
        return {self.last_computed_in_full} if partial else set()

    def cut(self, position: int) -> None:
        """Drop the outputs from this position on."""
        del self.outputs[position:]
        self.ends = {min(end, position - 1) for end in self.ends if position}


def bits(tensor: Tensor) -> Tensor:
    """As integers, of which NaN is one like the others."""
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def fingerprint(x: Tensor, timestep: Tensor) -> Fingerprint:
    """Equal for equal bits."""
    return int(bits(x).sum(dtype=torch.int64)), tuple(timestep.flatten().tolist())
