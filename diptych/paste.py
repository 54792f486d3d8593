"""Laying an edit over its source picture, strip by strip, so that a 24-megapixel picture needs no copies."""

import math
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from .feather import smoothstep
from .geometry import Box, Size
from .image import planes_of, resample


@dataclass(frozen=True)
class Piece:
    """An edit `h w 3` of any size that covers `box` of its source, with a weight `h w` of any size in 0..1.

    `fade`: the part of the box, in the picture's pixels, over which it takes over from the piece before it. `region`:
    `h w` bool of the whole picture, at any scale: the weight is 0 outside of it.
    """

    edit: Tensor
    weight: Tensor
    box: Box
    fade: Box | None = None
    region: Tensor | None = None


def paste(piece: Piece, source: Tensor, result: Tensor, changed: Tensor) -> None:
    """Lay a piece over `result` `h w 3` and its weight over `changed` `h w`, in place; `source` stays as it is.

    Where the weight is 0 the result is bit for bit the source, where it is 1 the edit.
    """
    edit, weight = planes_of(piece.edit), planes_of(piece.weight[..., None])
    active = _active(piece)
    for part in () if active is None else active.strips():
        rows, columns = slice(part.top, part.bottom), slice(part.left, part.right)
        seen = resample(weight, part.size, _scaled(part, piece.box, weight[0]), Image.Resampling.BILINEAR)
        if piece.region is not None:
            seen.mul_(_nearest(piece.region, part, Size(source.shape[1], source.shape[0]))[..., None])
        drawn = resample(edit, part.size, _scaled(part, piece.box, edit[0]))
        new = torch.lerp(source[rows, columns], drawn.clamp_(0.0, 1.0), seen.clamp_(0.0, 1.0))
        seen = seen[..., 0]
        if piece.fade is not None:
            ramp = _ramp(piece.fade, part)
            new = torch.lerp(result[rows, columns], new, ramp[..., None])
            seen = torch.lerp(changed[rows, columns], seen, ramp)
        result[rows, columns] = new
        changed[rows, columns] = seen


def _active(piece: Piece) -> Box | None:
    """The part of the box where something happens."""
    if piece.fade is not None:
        return piece.box
    height, width = piece.weight.shape
    rows, columns = piece.weight.amax(dim=1).nonzero(), piece.weight.amax(dim=0).nonzero()
    if not len(rows):
        return None
    x, y = piece.box.width / width, piece.box.height / height
    # Bilinear sampling spreads a weight by one of its own pixels, or by one of the picture's.
    left, top = ((int(first) - 1) * scale - 1 for first, scale in ((columns[0], x), (rows[0], y)))
    right, bottom = ((int(last) + 2) * scale + 1 for last, scale in ((columns[-1], x), (rows[-1], y)))
    left, top = max(0, math.floor(left)), max(0, math.floor(top))
    right, bottom = min(piece.box.width, math.ceil(right)), min(piece.box.height, math.ceil(bottom))
    return Box(piece.box.left + left, piece.box.top + top, right - left, bottom - top)


def _scaled(part: Box, box: Box, plane: Image.Image) -> tuple[float, float, float, float]:
    """A part of the box in the pixels of a plane that covers the box."""
    size = Size(*plane.size)
    left, right = ((edge - box.left) * size.width / box.width for edge in (part.left, part.right))
    top, bottom = ((edge - box.top) * size.height / box.height for edge in (part.top, part.bottom))
    return left, top, min(right, size.width), min(bottom, size.height)


def _nearest(mask: Tensor, part: Box, whole: Size) -> Tensor:
    """`h w` of the part, from a mask of the whole at any scale: for each pixel, the mask where its centre lies."""
    rows = (torch.arange(part.top, part.bottom) + 0.5).mul_(mask.shape[0] / whole.height)
    columns = (torch.arange(part.left, part.right) + 0.5).mul_(mask.shape[1] / whole.width)
    return mask[rows.long()][:, columns.long()]


def _ramp(fade: Box, part: Box) -> Tensor:
    """`h w` of the part: from 0 to 1 over the fade, along its shorter side."""
    if fade.width < fade.height:
        steps = (torch.arange(part.left, part.right) + 0.5 - fade.left) / fade.width
        steps = steps[None, :].expand(part.height, -1)
    else:
        steps = (torch.arange(part.top, part.bottom) + 0.5 - fade.top) / fade.height
        steps = steps[:, None].expand(-1, part.width)
    return smoothstep(steps)
