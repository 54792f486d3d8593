"""Comparing an edit with what it was made from: on the diptych's panels, or as a view of its source."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .change import find_change
from .feather import around
from .filters import shrink
from .geometry import Box, DiptychLayout, Size
from .image import as_batch, cut, size_of
from .panels import both_panels

COMPARED_PIXELS = 512 * 768
"""A panel of the trained width. Larger edits are compared at this size: the limits of find_change are made for it."""


@dataclass(frozen=True)
class View:
    """An edit `h w 3` of one box of its source.

    `reference` `h w 3`: the unedited picture through the same VAE; None: the source itself. They are compared at the
    size `compared`, on the device `device`.
    """

    edited: Tensor
    reference: Tensor | None
    box: Box
    compared: Size
    device: torch.device


@dataclass(frozen=True)
class ViewComparison:
    """A view's edit and original, `h w 3` of the compared size, and where the edit shows something else, `h w` bool."""

    edited: Tensor
    original: Tensor
    change: Tensor


def compare(view: View, source: Tensor) -> ViewComparison:
    """Compare a view with its source `h w 3`."""
    original = cut(source[None], view.box)[0]
    edited, original = (shrink(picture, view.compared).to(view.device) for picture in (view.edited, original))
    reference = original if view.reference is None else shrink(view.reference, view.compared).to(view.device)
    return ViewComparison(edited, original, find_change(edited, reference))


def compared_size(size: Size) -> Size:
    """The size at which edits of a size are compared."""
    scale = min(1.0, (COMPARED_PIXELS / (size.width * size.height)) ** 0.5)
    return Size(max(1, round(size.width * scale)), max(1, round(size.height * scale)))


def changed_share(changes: list[Tensor], limits: list[Tensor | None]) -> float:
    """Changed share of what may change: where a change's limit `h w` is above 0, everywhere without one."""
    allowed = [torch.ones_like(c) if w is None else w.to(c.device) > 0 for c, w in zip(changes, limits, strict=True)]
    changed = sum(int((c & a).sum()) for c, a in zip(changes, allowed, strict=True))
    return changed / max(1, sum(int(a.sum()) for a in allowed))


def changed_on_panels(image: Tensor, layout: DiptychLayout | None = None) -> Tensor:
    """`d h w` in 0..1: where the right panels of diptychs `d h (2 w) 3` differ from the left ones.

    Raises:
        ValueError: when the image is no diptych of this layout.
    """
    lefts, rights = both_panels(image, layout)
    size = size_of(rights)
    compared = compared_size(size if layout is None else layout.panel)
    areas = []
    for pair in zip(rights, lefts, strict=True):
        edited, reference = (shrink(picture, compared).to(image.device) for picture in pair)
        weight = around(find_change(edited, reference)).cpu()
        areas.append(shrink(weight[..., None], size)[..., 0])
    return as_batch(areas)
