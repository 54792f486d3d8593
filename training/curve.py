"""The loss of a training as a picture."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

SIZE = (768, 320)
"""Width and height."""
_MARGIN = 34
_RAW, _MEAN, _INK = (196, 206, 222), (28, 84, 178), (60, 60, 60)


def loss_curve(losses: Sequence[float], steps: int) -> Tensor:
    """A picture `h w 3` in 0..1: each step's loss pale, their running mean dark, on a scale from 0."""
    width, height = SIZE
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    bottom, right = height - _MARGIN, width - 12
    draw.line([(_MARGIN, 12), (_MARGIN, bottom), (right, bottom)], fill=_INK)
    draw.text((4, 2), "loss", fill=_INK)
    draw.text((right - 70, bottom + 8), f"step {steps}", fill=_INK)
    if losses:
        means = running_mean(losses)
        top = _top(losses)
        draw.text((_MARGIN + 6, 2), f"{top:.3g}", fill=_INK)
        draw.text((right - 150, 2), f"now {means[-1]:.4g}", fill=_MEAN)

        def place(step: int, loss: float) -> tuple[float, float]:
            x = _MARGIN + (right - _MARGIN) * (step + 1) / steps
            return x, bottom - (bottom - 14) * min(loss / top, 1.0)

        for values, colour in ((losses, _RAW), (means, _MEAN)):
            points = [place(step, loss) for step, loss in enumerate(values)]
            draw.line(points if len(points) > 1 else points * 2, fill=colour, width=2)
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(height, width, 3).float() / 255


def running_mean(losses: Sequence[float], share: float = 0.05) -> list[float]:
    """The mean of the last `share` of the steps so far, at least ten, at each step."""
    totals = [0.0]
    for loss in losses:
        totals.append(totals[-1] + loss)
    firsts = [max(0, end - max(10, int(share * end))) for end in range(1, len(totals))]
    return [(totals[end] - totals[first]) / (end - first) for end, first in enumerate(firsts, 1)]


def _top(losses: Sequence[float]) -> float:
    """The upper end of the scale: a few outliers may leave it."""
    ordered = sorted(losses)
    return max(ordered[int(0.98 * (len(ordered) - 1))] * 1.1, 1e-12)
