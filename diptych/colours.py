"""The colour shift that the VAE and the sampler put over a whole picture, measured and undone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .filters import image_filters

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

MAX_OFFSET, MAX_GAIN = 16 / 255, 0.15
"""A colour difference beyond these is what the edit wanted ("at night"), not drift."""
ENOUGH = 0.01
"""Share of a picture that is needed to measure anything."""
BLUR = 3.0
"""Panel pixels."""
FLATNESS = 1e-3
"""Variance below which a picture says too little about gain; it then stays near 1."""


@dataclass(frozen=True)
class Drift:
    """A colour shift per channel, undone by `picture * gain + offset`."""

    gain: Floats
    offset: Floats

    def undo(self, picture: Floats) -> Floats:
        """`h w 3` without the shift; not clamped."""
        return picture * self.gain + self.offset


def measure_drift(edited: Floats, reference: Floats, unchanged: Bools) -> Drift:
    """The shift from `reference` to `edited`, `h w 3`, by what did not change `h w`; none if that is too little."""
    ndimage = image_filters()
    gain, offset = np.ones(3, np.float32), np.zeros(3, np.float32)
    if unchanged.mean() >= ENOUGH:
        # Noise in the edited picture would pull a least squares gain down.
        edited, reference = (ndimage.gaussian_filter(picture, (BLUR, BLUR, 0)) for picture in (edited, reference))
        for channel in range(3):
            line = _line(edited[..., channel][unchanged], reference[..., channel][unchanged])
            gain[channel], offset[channel] = line
    return Drift(gain, offset)


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    """Gain and offset from x to y: least squares with outliers dropped, held within what can be drift."""
    gain, offset = 1.0, 0.0
    for _ in range(2):
        mean_x, mean_y = float(x.mean()), float(y.mean())
        covariance = float(((x - mean_x) * (y - mean_y)).mean())
        gain = (covariance + FLATNESS) / (float(x.var()) + FLATNESS)
        gain = min(max(gain, 1.0 - MAX_GAIN), 1.0 + MAX_GAIN)
        shift = min(max(mean_y - mean_x, -MAX_OFFSET), MAX_OFFSET)
        offset = mean_x + shift - gain * mean_x
        error = np.abs(x * gain + offset - y)
        keep = error <= max(3.0 * float(np.median(error)), 1 / 255)
        x, y = x[keep], y[keep]
    return gain, offset


def commonest_offset(edited: Floats, reference: Floats) -> Drift:
    """The mode of the difference per channel: unlike a mean or median it holds when most of a picture changed."""
    ndimage = image_filters()
    width = 1 / 510
    edges = np.arange(-MAX_OFFSET, MAX_OFFSET + 1.5 * width, width)
    offset = np.zeros(3, np.float32)
    for channel in range(3):
        count, _ = np.histogram(reference[..., channel] - edited[..., channel], edges)
        if count.sum() >= ENOUGH * edited[..., 0].size:
            offset[channel] = edges[ndimage.gaussian_filter1d(count.astype(np.float32), 3.0).argmax()] + width / 2
    return Drift(np.ones(3, np.float32), offset)
