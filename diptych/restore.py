"""Putting an edit back onto its source: at the source's size, and only where something changed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .change import drift_between, find_change
from .feather import around, inside
from .filters import highest, shrink
from .geometry import Box, DiptychLayout, Size
from .image import checked_image, cut, size_of
from .panels import crop_right_panel, glance
from .paste import Piece, paste
from .region import Region, clean_region, same_shape

PANEL, RESIZE, BLEND = "panel", "resize", "blend"
NEARLY_ALL = 0.75
"""From this share on, what is left unchanged is chance, not intent: a style edit."""
COMPARED_PIXELS = 512 * 768
"""A panel of the trained width. Larger edits are compared at this size: the limits of find_change are made for it."""
DRIFT_MARGIN = 8
"""Compared pixels around a change that do not count as unchanged: the model blends there."""
SAME_PICTURE = 0.1
"""Mean difference up to which two pictures can be one, graded or compressed."""


@dataclass(frozen=True)
class Restored:
    """Pictures `b h w 3`, the area of the edit in them `b h w` in 0..1, and what a user should know about it."""

    image: Tensor
    changed: Tensor
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """An edit `h w 3` of one box of its source.

    `reference` `h w 3`: what went the same way unedited; None: the source itself. They are compared at the size
    `compared`, on the device `device`.
    """

    edited: Tensor
    reference: Tensor | None
    box: Box
    compared: Size
    device: torch.device


@dataclass(frozen=True)
class PanelComparison:
    """What a view compares, `h w 3` of one size, and where they differ by more than drift, `h w` bool."""

    edited: Tensor
    original: Tensor
    change: Tensor


def changed_on_panels(image: Tensor, layout: DiptychLayout | None = None) -> Tensor:
    """`d h w` in 0..1: where the right panels of diptychs `d h (2 w) 3` differ from the left ones.

    Raises:
        ValueError: when the image is no diptych of this layout.
    """
    panels, lefts = _both_panels(image, layout)
    size = size_of(panels)
    compared = _within(size if layout is None else layout.panel, COMPARED_PIXELS)
    areas = []
    for pair in zip(panels, lefts, strict=True):
        edited, reference = (shrink(picture, compared).to(image.device) for picture in pair)
        weight = around(find_change(edited, reference)).cpu()
        areas.append(shrink(weight[..., None], size)[..., 0])
    return _batch(tuple(areas))


def restore_panels(image: Tensor, layout: DiptychLayout, original: Tensor, mode: str) -> Restored:
    """Put the right panels of decoded diptychs `d h (2 w) 3` back onto the pictures they were made from, `b h w 3`.

    Several rounds of the layout's diptychs, such as candidates, give as many rounds of pictures.

    Args:
        mode: "resize" puts back all that the panel shows, "blend" only what differs from the left panel. Outside a
            region neither changes a pixel.

    Raises:
        ValueError: a layout or original of another picture.
    """
    panels, lefts = _both_panels(image, layout)
    original = checked_image(original, "original")
    _check_original(layout, original, len(panels))
    compared = _within(layout.panel, COMPARED_PIXELS)
    restored = []
    for first in range(0, len(panels), layout.tiles):
        row = first % len(layout.boxes)
        picture = row // layout.tiles
        views = [
            View(panels[first + i], lefts[first + i], layout.boxes[row + i], compared, image.device)
            for i in range(layout.tiles)
        ]
        region = None if layout.source_region is None else layout.source_region[picture]
        restored.append(_restore_one(original[picture], views, region, mode))
    return _stacked(restored)


def restore_edit(edited: Tensor, original: Tensor, mode: str, region: Tensor | None = None) -> Restored:
    """The same for edits `n h w 3` of any model and their originals, one for all or one for each.

    Args:
        region: optional mask of the originals' shape: where the edit may show.

    Raises:
        ValueError: different shapes or batches, or a bad region.
    """
    device = edited.device
    edited, original = checked_image(edited, "edited"), checked_image(original, "original")
    source = size_of(original)
    _check_pair(edited, original)
    cleaned = Region(None) if region is None else clean_region(region, len(edited), source)
    compared = _within(size_of(edited), COMPARED_PIXELS)
    restored = []
    for i, edit in enumerate(edited):
        view = View(edit, None, Box(0, 0, source.width, source.height), compared, device)
        selected = None if cleaned.mask is None else cleaned.mask[i] > 0.0
        restored.append(_restore_one(original[i if len(original) > 1 else 0], [view], selected, mode))
    return _stacked(restored, cleaned.notes)


def _both_panels(image: Tensor, layout: DiptychLayout | None) -> tuple[Tensor, Tensor]:
    """The right and the left panels of diptychs, `d h w 3` each."""
    panels = crop_right_panel(image, layout)
    return panels, checked_image(image[:, :, : panels.shape[2]], "image")


def _restore_one(source: Tensor, views: list[View], region: Tensor | None, mode: str) -> tuple[Tensor, Tensor, str]:
    """One picture `h w 3` with the edits of its tiles put in, inside a region `h w` bool; its changed area; a note."""
    size = Size(source.shape[1], source.shape[0])
    limits = [None if region is None else inside(region, size, view.box, view.compared) for view in views]
    found: list[PanelComparison] | None = None
    note = ""
    if mode == BLEND:
        found = [_compare(view, source) for view in views]
        share = _share([one.change for one in found], limits)
        # A region says by itself how much may change.
        if share >= NEARLY_ALL and region is None:
            note = f"{share:.0%} of the picture changed, so all of the edit was used, as with resize."
            found = None
        elif share == 0.0:
            note = "The edit shows no change, so the picture is the original. Try another seed or instruction."
    result, changed = source.clone(), torch.zeros(source.shape[:2])
    for i, (view, limit) in enumerate(zip(views, limits, strict=True)):
        edit, weight = _in_full(view) if found is None else _in_part(view, found[i])
        weight = weight if limit is None else torch.minimum(weight, limit)
        fade = view.box.overlap(views[i - 1].box) if i else None
        paste(Piece(edit, weight, view.box, fade, region), source, result, changed)
    return result, changed, note


def _compare(view: View, source: Tensor) -> PanelComparison:
    original = cut(source[None], view.box)[0]
    edited, original = (shrink(picture, view.compared).to(view.device) for picture in (view.edited, original))
    if view.reference is None:
        return PanelComparison(edited, original, find_change(edited, original))
    reference = shrink(view.reference, view.compared).to(view.device)
    return PanelComparison(edited, original, find_change(edited, reference))


def _in_full(view: View) -> tuple[Tensor, Tensor]:
    """An edit `h w 3` that shows everywhere, and its weight `h w`."""
    return view.edited, torch.ones(view.compared.height, view.compared.width)


def _in_part(view: View, found: PanelComparison) -> tuple[Tensor, Tensor]:
    """An edit `h w 3` without its drift that shows where it changed something, and its weight `h w`."""
    # Beside the change, not outside the region: there, an edit that ignored it may have changed everything.
    unchanged = ~highest(found.change, 2 * DRIFT_MARGIN + 1)
    drift = drift_between(found.edited, found.original, unchanged).to(view.edited.device)
    return drift.undo(view.edited), around(found.change).cpu()


def _share(changes: list[Tensor], limits: list[Tensor | None]) -> float:
    """Changed share of what may change."""
    allowed = [torch.ones_like(c) if w is None else w.to(c.device) > 0 for c, w in zip(changes, limits, strict=True)]
    changed = sum(int((c & a).sum()) for c, a in zip(changes, allowed, strict=True))
    return changed / max(1, sum(int(a.sum()) for a in allowed))


def _check_original(layout: DiptychLayout, original: Tensor, diptychs: int) -> None:
    if size_of(original) != layout.source:
        raise ValueError(
            f"original is {size_of(original)}, but the layout belongs to a picture of {layout.source}. "
            "Connect original_image and layout of the same DiptychCreate."
        )
    pictures = len(layout.boxes) // layout.tiles
    if len(original) != pictures:
        raise ValueError(f"original holds {len(original)} pictures, but the layout was made for {pictures}.")
    if diptychs % len(layout.boxes):
        raise ValueError(
            f"The image holds {diptychs} diptychs, but the layout was made for {len(layout.boxes)}. "
            "Connect the whole decoded batch."
        )
    if (
        layout.glance is not None
        and float((glance(original) - layout.glance).abs().mean(dim=(1, 2)).max()) > SAME_PICTURE
    ):
        raise ValueError(
            "original is not the picture that the layout was made for, although it has its size. "
            "Connect original_image and layout of the same DiptychCreate."
        )


def _check_pair(edited: Tensor, original: Tensor) -> None:
    if len(original) not in (1, len(edited)):
        raise ValueError(
            f"original holds {len(original)} pictures for {len(edited)} edits, expected 1 for all or one for each."
        )
    # Models round sides to multiples of 16, up or down.
    if not same_shape(size_of(edited), size_of(original), slack=16.0):
        raise ValueError(
            f"edited is {size_of(edited)} and original is {size_of(original)}: these are different shapes, so the edit "
            "does not lie on the original. Crop the original as it was cropped for the edit."
        )


def _within(size: Size, pixels: int) -> Size:
    scale = min(1.0, (pixels / (size.width * size.height)) ** 0.5)
    return Size(max(1, round(size.width * scale)), max(1, round(size.height * scale)))


def _stacked(restored: list[tuple[Tensor, Tensor, str]], notes: tuple[str, ...] = ()) -> Restored:
    images, areas, own = zip(*restored, strict=True)
    named = [f"Picture {i}: {note}" if len(own) > 1 else note for i, note in enumerate(own, 1) if note]
    return Restored(_batch(images), _batch(areas), (*notes, *named))


def _batch(parts: tuple[Tensor, ...]) -> Tensor:
    # A batch of one, the usual case, is not copied: it may be a 24-megapixel picture.
    return parts[0][None] if len(parts) == 1 else torch.stack(parts)
