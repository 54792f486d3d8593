"""Image filters on planes `... h w`, on the device that the planes are on.

Sums and maxima of shifted views: on a CPU that is several times faster than scipy's filters, and than the convolutions
of single planes on which kornia builds. Connected components are scipy's, which every ComfyUI brings; torch has none.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from .geometry import Size


def shrink(picture: Tensor, size: Size) -> Tensor:
    """A picture `h w 3` at `size` for comparing, each pixel a mean; unchanged if it has that size."""
    if (picture.shape[1], picture.shape[0]) == (size.width, size.height):
        return picture
    planes = picture.permute(2, 0, 1)[None]
    return interpolate(planes, (size.height, size.width), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def blur(planes: Tensor, sigma: float) -> Tensor:
    """Gaussian blur; outside, the border's pixels are repeated."""
    radius = math.ceil(3.0 * sigma)
    weights = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(-radius, radius + 1)]
    return _weighted(_weighted(planes, weights, -1), weights, -2)


def mean(planes: Tensor, width: int) -> Tensor:
    """Mean of the square of `width` pixels (odd) around each pixel; outside, the border's pixels are repeated."""
    return _weighted(_weighted(planes, [1.0] * width, -1), [1.0] * width, -2)


def _weighted(planes: Tensor, weights: Sequence[float], dim: int) -> Tensor:
    """Weighted mean along one dimension; the weights are symmetric."""
    radius, length, total = len(weights) // 2, planes.shape[dim], sum(weights)
    edges = [planes.narrow(dim, at, 1) for at in (0, length - 1)]
    first, last = (
        edge.expand(*[radius if d == dim % planes.ndim else -1 for d in range(planes.ndim)]) for edge in edges
    )
    framed = torch.cat([first, planes, last], dim)
    result = framed.narrow(dim, radius, length) * (weights[radius] / total)
    for step in range(1, radius + 1):
        weight = weights[radius + step] / total
        result.add_(framed.narrow(dim, radius - step, length), alpha=weight)
        result.add_(framed.narrow(dim, radius + step, length), alpha=weight)
    return result


def halved(planes: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; of fewer where a side is odd."""
    if planes.shape[-2] % 2:
        planes = torch.cat([planes, planes[..., -1:, :]], -2)
    if planes.shape[-1] % 2:
        planes = torch.cat([planes, planes[..., -1:]], -1)
    rows = planes[..., ::2, :] + planes[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]).mul_(0.25)


def doubled(plane: Tensor, size: torch.Size) -> Tensor:
    """Undoes halved: `h w` at the `size` that it had before."""
    height, width = size
    return interpolate(plane[None, None], scale_factor=2.0, mode="bilinear")[0, 0, :height, :width]


def highest(planes: Tensor, width: int) -> Tensor:
    """Maximum of the square of `width` pixels (odd) around each pixel; of bools, the area grown by half of it."""
    return _running(_running(planes, width, -1), width, -2)


def bordered(area: Tensor) -> Tensor:
    """An area `h w` and the pixels that share a side with it."""
    return _running(area, 3, -1) | _running(area, 3, -2)


def _running(planes: Tensor, width: int, dim: int) -> Tensor:
    radius, empty = width // 2, False if planes.dtype == torch.bool else -math.inf
    found, span = pad(planes, _sides(radius, dim), value=empty), 1
    while span < width:
        # Windows of `span` that overlap make windows of up to twice that.
        step = min(span, width - span)
        length = found.shape[dim] - step
        found = torch.maximum(found.narrow(dim, 0, length), found.narrow(dim, step, length))
        span += step
    return found


def distance(area: Tensor, limit: int) -> Tensor:
    """`h w`: pixels from the centre of each pixel to the nearest of an area `h w`; beyond `limit`, more than it."""
    far = (limit + 1) ** 2
    # Squared distances are whole numbers, and small integers are fast.
    squared = (~area).to(torch.uint8 if far + limit**2 < 256 else torch.int16).mul_(far)
    for dim in (-1, -2):
        squared = _lower_envelope(squared, limit, far, dim)
    return squared.float().sqrt_()


def _lower_envelope(squared: Tensor, limit: int, far: int, dim: int) -> Tensor:
    """Squared distances after looking along one more dimension: exact, because they add up."""
    length = squared.shape[dim]
    framed = pad(squared, _sides(limit, dim), value=far)
    nearest = squared.clone()
    for step in range(1, limit + 1):
        raised = framed + step * step
        for start in (limit - step, limit + step):
            torch.minimum(nearest, raised.narrow(dim, start, length), out=nearest)
    return nearest


def _sides(width: int, dim: int) -> tuple[int, ...]:
    """The argument of pad for a frame in one of the last two dimensions."""
    return (width, width) if dim == -1 else (0, 0, width, width)


def components(area: Tensor, diagonal: bool = True) -> tuple[Tensor, int]:
    """`h w` int32: the number of the connected part of an area `h w` that each pixel lies in, or 0; their count."""
    labels, count = _ndimage().label(area.cpu().numpy(), np.ones((3, 3)) if diagonal else None)
    return torch.from_numpy(labels), count


def _ndimage() -> Any:
    """scipy.ndimage, loaded at first use; Any, because type checkers infer wrong results from its untyped source."""
    from scipy import ndimage

    return ndimage
