"""Regions that were found, by a detector or in a first look at the edit, not painted: grown, softened, shown.

The paper edits whole pictures; this is the pack's own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate

from .change import find_change
from .comparison import compared_size
from .feather import smoothstep
from .filters import distance, highest, shrink
from .geometry import DiptychLayout, Size, same_shape
from .image import UNPAINTED, cut, resize, size_of
from .matching import check_original

LONGEST = 1024
"""Pixels of the longer side at which regions are grown and shown: their borders are no finer than that."""
DIMMED = 0.3
"""Brightness of a picture around its region."""
LINE = (0.1, 0.9, 0.4)
LINE_SHARE = 1 / 400
"""Width of the line around a region, of the longer side."""


@dataclass(frozen=True)
class RegionBorder:
    """How far a region reaches beyond what was found, and over how much more it fades out; both as shares of the
    picture's longer side."""

    grow: float
    feather: float

    def __post_init__(self) -> None:
        for name, share in (("grow", self.grow), ("feather", self.feather)):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} is {share}, expected 0 to 1: a share of the picture's longer side.")


def selected(found: Tensor, picture: Size, batch: int) -> Tensor:
    """`b h w` bool: what is found on masks `b h w` or `h w`, of the picture's shape at any scale.

    Raises:
        ValueError: another shape or number, or NaN.
    """
    if found.ndim == 2:
        found = found[None]
    if found.ndim != 3 or found.numel() == 0:
        raise ValueError(f"mask has the shape {list(found.shape)}, expected a MASK [batch, height, width].")
    if len(found) not in (1, batch):
        raise ValueError(
            f"mask holds {len(found)} masks for {batch} pictures, expected 1 for all or one for each. A detector gives "
            "one for each thing that it finds when individual_masks is on: switch it off."
        )
    if not same_shape(size_of(found), picture):
        raise ValueError(f"mask is {size_of(found)}, but the picture is {picture}. Connect the picture it was made of.")
    if not bool(torch.isfinite(found).all()):
        raise ValueError("mask contains NaN or infinite values. Check the node that made it.")
    return (found.detach().cpu() > UNPAINTED).expand(batch, -1, -1)


def changed_areas(
    rights: Tensor, lefts: Tensor, layout: DiptychLayout, original: Tensor, threshold: float, device: torch.device
) -> Tensor:
    """`b h w` bool of the original pictures `b h w 3`: where the right panels `d h w 3` of their diptychs differ from
    the left ones; of several rounds, such as seeds, where any does.

    Args:
        threshold: the difference in 0..1 that counts; 0 follows the noise.

    Raises:
        ValueError: a layout or original of another picture, or a threshold outside 0..1.
    """
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold is {threshold}, expected 0 to 1: a difference of colours. 0 follows the noise.")
    check_original(layout, original, len(rights))
    compared = compared_size(layout.panel)
    areas = torch.zeros(original.shape[:3], dtype=torch.bool)
    for row, (right, left) in enumerate(zip(rights, lefts, strict=True)):
        picture, box = layout.shown()[row % len(layout.boxes)]
        edited, reference = (shrink(panel, compared).to(device) for panel in (right, left))
        changed = find_change(edited, reference, threshold).float().cpu()
        cut(areas[picture : picture + 1], box)[0] |= _scaled(changed, (box.height, box.width)) > 0.5
    return areas


def grown(found: Tensor, border: RegionBorder) -> Tensor:
    """Regions `b h w` in 0..1 around what was found, `b h w` bool: 1 there and as far as they grow, then fading."""
    return torch.stack([_grown(one, border) for one in found])


def _grown(found: Tensor, border: RegionBorder) -> Tensor:
    longer = max(found.shape)
    scale = min(1.0, LONGEST / longer)
    # No less than a pixel, so that a small share of a small picture is not nothing.
    grow, feather = (max(1.0, share * longer * scale) if share else 0.0 for share in (border.grow, border.feather))
    if not (grow or feather) or not found.any():
        return found.float()
    height, width = (max(1, round(side * scale)) for side in found.shape)
    near = adaptive_max_pool2d(found[None].float(), (height, width))[0] > 0.5
    off = distance(near, int(grow + feather) + 1) - grow
    region = smoothstep(1.0 - off / feather) if feather else (off <= 0.0).float()
    # Its own pixels are not lost to the smaller scale.
    return torch.maximum(_scaled(region, found.shape), found.float())


def shown_over(pictures: Tensor, regions: Tensor) -> Tensor:
    """Pictures `b h w 3`, at most LONGEST pixels long, dimmed and lined around their regions `b h w`."""
    size = size_of(pictures)
    scale = min(1.0, LONGEST / max(size.width, size.height))
    small = Size(max(1, round(size.width * scale)), max(1, round(size.height * scale)))
    width = 2 * max(1, round(LINE_SHARE * max(small.width, small.height))) + 1
    shown = []
    for picture, region in zip(resize(pictures, small), regions, strict=True):
        weight = _scaled(region, (small.height, small.width))
        inside = weight > 0.5
        dimmed = picture * (DIMMED + (1.0 - DIMMED) * weight[..., None])
        line = highest(inside, width) & ~inside
        shown.append(torch.where(line[..., None], torch.tensor(LINE), dimmed))
    return torch.stack(shown)


def _scaled(mask: Tensor, size: tuple[int, ...]) -> Tensor:
    height, width = size
    smaller = height < mask.shape[0]
    return interpolate(mask[None, None], (height, width), mode="bilinear", antialias=smaller)[0, 0].clamp_(0.0, 1.0)
