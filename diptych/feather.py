"""Soft borders: outwards around a change, inwards from the border of a region."""

import math

import torch
from PIL import Image
from torch import Tensor

from .filters import distance, highest
from .geometry import Box, Size
from .image import planes_of, resample

GROW, FEATHER = 2, 6
"""Panel pixels around a change that get it wholly, and over which it fades out."""
REGION_FEATHER = 8
"""Panel pixels, the side of one latent, over which an edit fades in from the border of a region that is wide enough."""
NARROW = 1.5
"""In regions of at most this many panel pixels from border to middle, an edit does not fade in."""


def smoothstep(ramp: Tensor) -> Tensor:
    """The ramp held within 0..1, with a slope of 0 at both ends."""
    ramp = ramp.clamp(0.0, 1.0)
    return ramp * ramp * (3.0 - 2.0 * ramp)


def around(area: Tensor) -> Tensor:
    """`h w` in 0..1: 1 on the area `h w` and GROW pixels around it, falling smoothly to 0 within FEATHER more."""
    return smoothstep(1.0 - (distance(area, GROW + FEATHER) - GROW) / FEATHER)


def inside(region: Tensor, source: Size, box: Box, size: Size) -> Tensor:
    """`size.height size.width`, a grid over a box of the source, in 0..1: 0 at a region's border, 1 deep inside it.

    Args:
        region: `h w` bool of the whole source at any scale: what lies beyond the box decides where the border is.
    """
    x, y = box.width / size.width, box.height / size.height
    left, right = (min(REGION_FEATHER, int(room / x)) for room in (box.left, source.width - box.right))
    top, bottom = (min(REGION_FEATHER, int(room / y)) for room in (box.top, source.height - box.bottom))
    framed = Size(size.width + left + right, size.height + top + bottom)
    part = (box.left - left * x, box.top - top * y, box.right + right * x, box.bottom + bottom * y)
    weight = _rising(_coverage(region, source, part, framed))
    return weight[top : top + size.height, left : left + size.width]


def _rising(coverage: Tensor) -> Tensor:
    """`h w` in 0..1 from how much of each pixel a region covers."""
    # A line thinner than a pixel does not cover half of any.
    selected = (coverage > 0.0) & (coverage >= highest(coverage, 3) / 2)
    depth = distance(~selected, 2 * REGION_FEATHER) - 0.5
    reach = highest(depth, 4 * REGION_FEATHER + 1)
    # At most half of the way to the middle, so that a narrow region's edit shows too.
    weight = smoothstep(depth / (reach / 2).clamp_(0.5, REGION_FEATHER))
    # A few pixels have no room to fade; beside them the region itself, finer than this grid, is the limit.
    return torch.maximum(weight, highest(selected & (reach <= NARROW), 3).float())


def _coverage(region: Tensor, source: Size, part: tuple[float, float, float, float], size: Size) -> Tensor:
    """`h w` in 0..1: how much of each pixel of a grid over a part of the source a region `h w` covers."""
    height, width = region.shape
    left, right = (edge * width / source.width for edge in (part[0], part[2]))
    top, bottom = (edge * height / source.height for edge in (part[1], part[3]))
    # Only what the part needs becomes floats: a region may have 24 megapixels.
    columns, rows = max(0, math.floor(left)), max(0, math.floor(top))
    seen = region[rows : math.ceil(bottom), columns : math.ceil(right), None].float()
    limits = (left - columns, top - rows, min(right - columns, seen.shape[1]), min(bottom - rows, seen.shape[0]))
    return resample(planes_of(seen), size, limits, Image.Resampling.BILINEAR)[..., 0].clamp_(0.0, 1.0)
