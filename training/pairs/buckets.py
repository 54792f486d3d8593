"""Sizes of panels: proportions are kept, areas are about the trained one, sides fit the model's patches."""

import math

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .pair import Bucket

SNAP = 16
"""Pixels: the VAE's factor 8 times the model's 2 x 2 patches."""
LONGEST_SIDE = 2.0
"""Times the panel size: pictures longer than 4 to 1 are cut."""


def bucket_of(height: int, width: int, panel_size: int) -> Bucket:
    """The panel for a picture: about `panel_size` squared pixels in the proportions that need the least cutting."""
    wanted = math.log(height / width)
    area = panel_size * panel_size
    short, long = (max(SNAP, round(panel_size * factor / SNAP) * SNAP) for factor in (1 / LONGEST_SIDE, LONGEST_SIDE))
    sides = range(short, long + 1, SNAP)
    # From the wider panel to the height and the other way round, so that a turned picture gets the turned panel.
    wide = [(_snapped(area / side), side) for side in sides]
    panels = {*wide, *((width, height) for height, width in wide)}
    return min(panels, key=lambda panel: (abs(math.log(panel[0] / panel[1]) - wanted), abs(panel[0] * panel[1] - area)))


def _snapped(length: float) -> int:
    return max(SNAP, round(length / SNAP) * SNAP)


def kept_share(height: int, width: int, bucket: Bucket) -> float:
    """How much of a picture is left when it is cut to a bucket's proportions, of 1."""
    ratio = (height / width) / (bucket[0] / bucket[1])
    return min(ratio, 1 / ratio)


def fitted(picture: Tensor, bucket: Bucket) -> Tensor:
    """The middle of a picture `h w 3` in a bucket's proportions, scaled to its size."""
    height, width = picture.shape[:2]
    if (height, width) == bucket:
        return picture
    scale = min(height / bucket[0], width / bucket[1])
    kept = max(1, min(height, round(bucket[0] * scale))), max(1, min(width, round(bucket[1] * scale)))
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    planes = picture[top : top + kept[0], left : left + kept[1]].permute(2, 0, 1)[None]
    planes = F.interpolate(planes, size=bucket, mode="bicubic", antialias=True, align_corners=False)
    return planes[0].permute(1, 2, 0).clamp(0.0, 1.0).contiguous()
