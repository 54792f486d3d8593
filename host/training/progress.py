"""One progress bar over a whole training, with pictures of it on the node."""

import comfy.utils
from PIL import Image
from torch import Tensor

PREVIEW = 1024
"""Longest side of a picture on the node."""


class TrainingProgress:
    """The bar; every part of the work is one unit."""

    def __init__(self, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total)
        self._done = 0

    def step(self) -> None:
        self._done += 1
        self._bar.update_absolute(self._done)

    def show(self, sheet: Tensor) -> None:
        """Show a picture `1 h w 3` in 0..1 on the node."""
        pixels = (sheet[0].clamp(0, 1) * 255).round().byte().numpy()
        self._bar.update_absolute(self._done, preview=("JPEG", Image.fromarray(pixels), PREVIEW))
