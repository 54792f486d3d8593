"""The colour shift that the VAE and the sampler put over a whole picture, measured and undone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .filters import blur

MAX_OFFSET, MAX_GAIN = 16 / 255, 0.15
"""A colour difference beyond these is what the edit wanted ("at night"), not drift."""
ENOUGH = 0.01
"""Share of a picture that is needed to measure anything."""
FLATNESS = 1e-3
"""Variance below which a picture says too little about gain, so that this stays near 1."""
SAMPLED = 3
"""Every third pixel in both directions is enough of a blurred picture."""


@dataclass(frozen=True)
class Drift:
    """A colour shift per channel, undone by `picture * gain + offset`; both `3`."""

    gain: Tensor
    offset: Tensor

    def undo(self, picture: Tensor) -> Tensor:
        """`h w 3` without the shift; not clamped."""
        return torch.addcmul(self.offset, picture, self.gain)

    def undo_planes(self, planes: Tensor) -> Tensor:
        """The same for `3 h w`."""
        return torch.addcmul(self.offset[:, None, None], planes, self.gain[:, None, None])

    def to(self, device: torch.device) -> "Drift":
        return Drift(self.gain.to(device), self.offset.to(device))


def measure_drift(edited: Tensor, reference: Tensor, unchanged: Tensor) -> Drift:
    """The shift from `reference` to `edited`, `3 h w`, by what did not change `h w`; none if that is too little.

    Give blurred pictures: noise in the edited one pulls a least squares gain down.
    """
    edited, reference, unchanged = (planes[..., ::SAMPLED, ::SAMPLED] for planes in (edited, reference, unchanged))
    lines = [(1.0, 0.0)] * 3
    if float(unchanged.float().mean()) >= ENOUGH:
        lines = [_line(edited[channel][unchanged], reference[channel][unchanged]) for channel in range(3)]
    gain, offset = torch.tensor(lines, device=edited.device).unbind(1)
    return Drift(gain, offset)


def _line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Gain and offset from x to y: least squares with outliers dropped, held within what can be drift."""
    gain, offset = 1.0, 0.0
    for _ in range(2):
        mean_x, mean_y = float(x.mean()), float(y.mean())
        covariance = float(((x - mean_x) * (y - mean_y)).mean())
        gain = (covariance + FLATNESS) / (float(x.var(correction=0)) + FLATNESS)
        gain = min(max(gain, 1.0 - MAX_GAIN), 1.0 + MAX_GAIN)
        shift = min(max(mean_y - mean_x, -MAX_OFFSET), MAX_OFFSET)
        offset = mean_x + shift - gain * mean_x
        error = (x * gain + offset - y).abs_()
        keep = error <= max(3.0 * float(error.median()), 1 / 255)
        x, y = x[keep], y[keep]
    return gain, offset


def commonest_offset(edited: Tensor, reference: Tensor) -> Drift:
    """The mode of the difference of `3 h w` per channel: unlike a mean or median it holds when most changed."""
    bins, reach = round(2 * MAX_OFFSET * 510) + 1, MAX_OFFSET + 0.5 / 510
    offsets = []
    for channel in reference - edited:
        count = torch.histc(channel, bins, -reach, reach)
        smooth = blur(count[None], 3.0)[0]
        at = int(smooth.argmax()) if float(count.sum()) >= ENOUGH * channel.numel() else bins // 2
        offsets.append((at - bins // 2) / 510)
    offset = torch.tensor(offsets, device=edited.device)
    return Drift(torch.ones_like(offset), offset)
