"""Regions: masks that say where an edit may happen."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from .geometry import Box, Size, same_shape
from .image import UNPAINTED, planes_of, resample, size_of

LATENT_CELL = 8
"""Pixels per side of what the VAE makes into one latent."""
FULL = 0.25
"""From this share of a mask's strongest paint on, a pixel counts as painted in full; weaker ones are soft edges."""
NO_MASK = 64
"""ComfyUI's Load Image gives black squares of this side with a picture that has no mask."""
EMPTY = (
    "region is empty, so nothing may change. Paint the area to edit (right-click the picture, Open in MaskEditor), or "
    "disconnect region to edit the whole picture."
)
PARTLY, MUCH = 0.9, 1 / 3
"""Users are told where more than this share of a region is painted more weakly than that."""


@dataclass(frozen=True)
class Region:
    """Where pictures may change, `b h w` in 0..1, None for everywhere; and what a user should know about it."""

    mask: Tensor | None
    notes: tuple[str, ...] = ()


def clean_region(region: Tensor, batch: int, source: Size) -> Region:
    """The region as `batch h w` float32 in 0..1, of the source's size or that of a scaled copy of it.

    It is 1 wherever something is painted, at any opacity, 0 where there is only the noise of a file format, and in
    between on soft edges alone: a mask of one half would give no edit or a mixture of two pictures, not half an edit.

    Raises:
        ValueError: wrong shape, batch or aspect ratio, NaN, or nothing selected.
    """
    if region.ndim == 2:
        region = region[None]
    if region.ndim != 3 or region.numel() == 0:
        raise ValueError(f"region has the shape {list(region.shape)}, expected a MASK [batch, height, width].")
    if is_no_mask(region, source):
        return Region(None, ("region is the empty mask that Load Image gives for a picture without one: not used.",))
    if len(region) not in (1, batch):
        raise ValueError(
            f"region holds {len(region)} masks for {batch} pictures, expected 1 mask for all or one for each."
        )
    region = region.detach().to(device="cpu", dtype=torch.float32)
    low, high = (float(value) for value in region.aminmax())
    if not (low > -torch.inf and high < torch.inf):
        raise ValueError("region contains NaN or infinite values. Check the node that made the mask.")
    _check_painted(region)
    if not same_shape(size_of(region), source):
        raise ValueError(
            f"region is {size_of(region)}, but the picture is {source}: parts of the region would lie outside. "
            "Use a mask made for this picture, of its size or scaled with it."
        )
    region = region.clamp(0.0, 1.0)
    share = partly_painted(region)
    note = (
        f"{share:.0%} of the region is painted at less than full strength, and counts as painted in full; only its "
        "outermost edge fades. For a weaker edit lower the sampler's denoise."
    )
    return Region(_in_full(region).expand(batch, -1, -1), (note,) if share > MUCH else ())


def is_no_mask(region: Tensor, source: Size) -> bool:
    """Whether this is what Load Image gives with a picture that has no mask, rather than a mask that is empty."""
    height, width = region.shape[-2:]
    of_its_own = (width, height) == (source.width, source.height)
    return height == width == NO_MASK and not of_its_own and not bool((region > UNPAINTED).any())


def partly_painted(mask: Tensor) -> float:
    """Share of what is painted on masks `b h w` that is painted at less than full strength, soft edges aside."""
    painted = int((mask > UNPAINTED).sum())
    return int(((_in_full(mask) == 1.0) & (mask < PARTLY)).sum()) / max(1, painted)


def without_noise(mask: Tensor) -> Tensor:
    """The mask with 0 and 1 where it is nearly that, as lossy files leave black and white."""
    mask = torch.where(mask <= UNPAINTED, 0.0, mask)
    return torch.where(mask >= 1.0 - UNPAINTED, 1.0, mask)


def _check_painted(region: Tensor) -> None:
    empty = [str(i) for i, peak in enumerate(region.amax(dim=(1, 2)).tolist(), 1) if peak <= UNPAINTED]
    if empty:
        raise ValueError(EMPTY if len(region) == 1 else f"Picture {', '.join(empty)}: {EMPTY}")


def _in_full(region: Tensor) -> Tensor:
    """Masks `b h w` that are 1 from a share of their strongest paint on, so that a low opacity is no weak edit."""
    above = region - UNPAINTED
    full = FULL * above.amax(dim=(1, 2), keepdim=True)
    return above.div_(full.clamp_(min=1e-6)).clamp_(0.0, 1.0)


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
    return without_noise(seen.clamp(0.0, 1.0))


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
