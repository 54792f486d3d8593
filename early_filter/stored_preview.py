"""Candidates' previews in little memory: a dozen large pictures are held until they are judged."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .judge import Candidate

Panel = Literal["right half", "whole picture"]

STORED = torch.float16
"""Finer than 8 bit for pictures in 0..1, and it holds NaN, which judges look for."""


class Preview(Candidate):
    """A candidate whose pictures are kept as float16; its panels are float32."""

    def __init__(self, seed: int, picture: Tensor, left: Tensor | None = None) -> None:
        """Keep the decoded edit `h w 3` in 0..1, and of a diptych the left panel, which candidates may share."""
        # A frozen dataclass cannot be written to in the usual way.
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "picture", picture.to(STORED))
        object.__setattr__(self, "_left", None if left is None else left.to(STORED))

    picture: Tensor
    _left: Tensor | None

    @property
    def panel(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.picture.float()

    @property
    def left(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return None if self._left is None else self._left.float()


def left_half(diptych: Tensor, dim: int = 1) -> Tensor:
    """Left panel of a diptych `h (2 w) c`, or of a latent whose width is `dim`."""
    return diptych.narrow(dim, 0, diptych.shape[dim] // 2)


def right_half(diptych: Tensor, dim: int = 1) -> Tensor:
    """Right panel likewise."""
    half = diptych.shape[dim] // 2
    return diptych.narrow(dim, diptych.shape[dim] - half, half)


def joined(tiles: Sequence[Tensor]) -> Tensor:
    """The tiles `h w c` of one picture side by side: so they are judged together.

    Judged one by one, a tile without anything to change would pass for an edit that did nothing.
    """
    return tiles[0] if len(tiles) == 1 else torch.cat(list(tiles), dim=1)
