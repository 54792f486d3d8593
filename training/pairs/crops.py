"""Random crops of a pair: the same edit somewhere else in the picture, so that few pairs are not learned by heart."""

import random
from dataclasses import dataclass

from torch import Tensor

SMALLEST = 0.88
"""Of a picture's sides, that a crop keeps."""


@dataclass(frozen=True)
class Crop:
    """A part of a picture, of its proportions: `side` of its sides, from `top` and `left`, all as shares."""

    side: float = 1.0
    top: float = 0.0
    left: float = 0.0

    @classmethod
    def random(cls, id: str, number: int) -> "Crop":
        """The crop of that number of a pair, always the same one."""
        draw = random.Random(f"crop {id} {number}")  # noqa: S311 - drawn to be repeated
        side = draw.uniform(SMALLEST, 1.0)
        return cls(side, draw.uniform(0.0, 1.0 - side), draw.uniform(0.0, 1.0 - side))

    def of(self, picture: Tensor) -> Tensor:
        """That part of a picture `h w 3`."""
        height, width = picture.shape[:2]
        top, left = round(self.top * height), round(self.left * width)
        return picture[top : top + max(1, round(self.side * height)), left : left + max(1, round(self.side * width))]


WHOLE = Crop()
