"""Regions: masks that say where an edit may happen."""

import torch
from PIL import Image
from torch import Tensor

from .geometry import Box, Size
from .image import planes_of, resample, size_of

LATENT_CELL = 8
"""Pixels per side of what the VAE makes into one latent."""


def checked_region(region: Tensor, batch: int, source: Size) -> Tensor:
    """The region as `batch h w` float32 in 0..1, of the source's size or that of a scaled copy of it.

    Raises:
        ValueError: wrong shape, batch or aspect ratio, NaN, or nothing selected.
    """
    if region.ndim == 2:
        region = region[None]
    if region.ndim != 3 or region.numel() == 0:
        raise ValueError(f"region has the shape {list(region.shape)}, expected a MASK [batch, height, width].")
    if len(region) not in (1, batch):
        raise ValueError(
            f"region holds {len(region)} masks for {batch} pictures, expected 1 mask for all or one for each."
        )
    region = region.detach().float().cpu()
    low, high = (float(value) for value in region.aminmax())
    if not (low > -torch.inf and high < torch.inf):
        raise ValueError("region contains NaN or infinite values. Check the node that made the mask.")
    if not bool((region.amax(dim=(1, 2)) > 0.0).all()):
        raise ValueError(
            "region is empty, so nothing may change. Paint the area to edit (right-click the picture, Open in "
            "MaskEditor), or disconnect region to edit the whole picture."
        )
    if not same_shape(size_of(region), source):
        raise ValueError(
            f"region is {size_of(region)}, but the picture is {source}: parts of the region would lie outside. "
            "Use a mask made for this picture, of its size or scaled with it."
        )
    if low < 0.0 or high > 1.0:
        region = region.clamp(0.0, 1.0)
    return region.expand(batch, -1, -1)


def same_shape(one: Size, other: Size, slack: float = 1.0) -> bool:
    """Whether one size is the other one scaled, give or take `slack` pixels of rounding in the smaller one."""
    if one.width * one.height > other.width * other.height:
        one, other = other, one
    scale = ((one.width * one.height) / (other.width * other.height)) ** 0.5
    return abs(other.width * scale - one.width) <= slack and abs(other.height * scale - one.height) <= slack


def extent(region: Tensor, source: Size) -> Box:
    """The smallest box of the source that holds everything selected in a region `h w`."""
    height, width = region.shape
    rows, columns = region.amax(dim=1).nonzero(), region.amax(dim=0).nonzero()
    left, top = int(columns[0]) * source.width // width, int(rows[0]) * source.height // height
    right = -(-(int(columns[-1]) + 1) * source.width // width)
    bottom = -(-(int(rows[-1]) + 1) * source.height // height)
    return Box(left, top, right - left, bottom - top)


def region_on_panel(region: Tensor, source: Size, box: Box, panel: Size) -> Tensor:
    """`panel.height panel.width`: what a panel that shows `box` sees of a region `h w` of the whole source.

    Raises:
        ValueError: when it is too small there for the model to paint in.
    """
    if not region.amax() > 0.0:
        return torch.zeros(panel.height, panel.width)
    x, y = region.shape[1] / source.width, region.shape[0] / source.height
    part = (box.left * x, box.top * y, box.right * x, box.bottom * y)
    seen = resample(planes_of(region[..., None]), panel, part, Image.Resampling.BILINEAR)[..., 0]
    return seen.clamp(0.0, 1.0)


def check_paintable(region: Tensor) -> None:
    """Check regions `d h w` on the panels of one picture.

    Raises:
        ValueError: when none of them fills half a latent anywhere, so that the model would not see it.
    """
    cells = torch.nn.functional.avg_pool2d(region[:, None], LATENT_CELL, ceil_mode=True)
    if float(cells.max()) < 0.5 * float(region.max()) or float(region.max()) < 0.01:
        raise ValueError(
            f"region is too small: in the panel it covers only {int((region > 0).sum())} pixels, less than the model's "
            f"{LATENT_CELL} x {LATENT_CELL} pixel blocks. Set fit to crop_to_region, or paint a larger area."
        )
