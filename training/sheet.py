"""What a training looks like: its loss, and samples beside what was wanted."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

from .curve import SIZE, loss_curve

_PANELS = ("before", "now", "wanted")
_GAP = 6


@dataclass(frozen=True)
class EditSample:
    """A held-out pair with what the adapter makes of it; pictures `h w 3` in 0..1."""

    instruction: str
    before: Tensor
    now: Tensor
    wanted: Tensor


def training_sheet(losses: Sequence[float], steps: int, samples: Sequence[EditSample]) -> Tensor:
    """A picture `1 h w 3`: the loss, and a row for each sample."""
    return torch.cat([loss_curve(losses, steps), *(_row(sample) for sample in samples)])[None]


def _row(sample: EditSample) -> Tensor:
    width = (SIZE[0] - 2 * _GAP) // 3
    height = round(width * sample.before.shape[0] / sample.before.shape[1])
    row = torch.ones(height + 18, SIZE[0], 3)
    for index, picture in enumerate((sample.before, sample.now, sample.wanted)):
        small = interpolate(picture.movedim(-1, 0)[None].float(), (height, width), mode="area")[0].movedim(0, -1)
        left = index * (width + _GAP)
        row[18:, left : left + width] = small.clamp(0, 1)
    row[:18] = _caption(f"{' | '.join(_PANELS)}: {sample.instruction}")
    return row


def _caption(text: str) -> Tensor:
    picture = Image.new("RGB", (SIZE[0], 18), "white")
    # The built-in font has Latin letters only.
    ImageDraw.Draw(picture).text((2, 3), text.encode("latin-1", "replace").decode("latin-1"), fill=(60, 60, 60))
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(18, SIZE[0], 3).float() / 255
