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
    """A candidate whose picture is kept as float16; its panels are float32."""

    def __init__(self, seed: int, picture: Tensor, panel: Panel) -> None:
        """Keep a decoded picture `h w 3` in 0..1; of a diptych the right half is the edit."""
        # A frozen dataclass cannot be written to in the usual way.
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "picture", picture.to(STORED))
        object.__setattr__(self, "_diptych", panel == "right half")

    picture: Tensor
    _diptych: bool

    @property
    def panel(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (right_half(self.picture) if self._diptych else self.picture).float()

    @property
    def left(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return left_half(self.picture).float() if self._diptych else None


def left_half(picture: Tensor) -> Tensor:
    """Left panel of a diptych `h (2 w) c`."""
    return picture[:, : picture.shape[1] // 2]


def right_half(picture: Tensor) -> Tensor:
    """Right panel of a diptych `h (2 w) c`."""
    return picture[:, (picture.shape[1] + 1) // 2 :]


def joined(tiles: Sequence[Tensor], panel: Panel) -> Tensor:
    """The tiles `h w c` of one picture side by side, of diptychs one diptych: so they are judged together.

    Judged one by one, a tile without anything to change would pass for an edit that did nothing.
    """
    if len(tiles) == 1:
        return tiles[0]
    if panel == "whole picture":
        return torch.cat(list(tiles), dim=1)
    return torch.cat([*map(left_half, tiles), *map(right_half, tiles)], dim=1)
