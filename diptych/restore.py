"""Putting an edit back onto its source: at the source's size, and only where something changed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .change import drift_between
from .comparison import View, ViewComparison, changed_share, compare, compared_size
from .feather import around, inside
from .filters import highest
from .geometry import Box, DiptychLayout, Size
from .image import as_batch, checked_image, size_of
from .matching import check_original, check_pair
from .panels import both_panels
from .paste import Piece, paste
from .region import Region, clean_region

PANEL, RESIZE, BLEND = "panel", "resize", "blend"
NEARLY_ALL = 0.75
"""From this share on, what is left unchanged is chance, not intent: a style edit."""
DRIFT_MARGIN = 8
"""Compared pixels around a change that do not count as unchanged: the model blends there."""


@dataclass(frozen=True)
class Restored:
    """Pictures `b h w 3`, the area of the edit in them `b h w` in 0..1, and what a user should know about it."""

    image: Tensor
    changed: Tensor
    notes: tuple[str, ...] = ()


def restore_panels(image: Tensor, layout: DiptychLayout, original: Tensor, mode: str) -> Restored:
    """Put the right panels of decoded diptychs `d h (2 w) 3` back, see restore_right_panels.

    Raises:
        ValueError: a layout or original of another picture, or no diptychs of this layout.
    """
    lefts, rights = both_panels(image, layout)
    return restore_right_panels(rights, lefts, layout, original, mode, image.device)


def restore_right_panels(
    rights: Tensor,
    lefts: Tensor | None,
    layout: DiptychLayout,
    original: Tensor,
    mode: str,
    device: torch.device,
) -> Restored:
    """Put right panels `d h w 3` back onto the pictures that their diptychs were made from, `b h w 3`.

    Several rounds of the layout's diptychs, such as candidates, give as many rounds of pictures.

    Args:
        lefts: the left panels, for "blend".
        mode: "resize" puts back all that the panel shows, "blend" only what differs from the left panel. Outside a
            region neither changes a pixel.
        device: where panels are compared.

    Raises:
        ValueError: a layout or original of another picture.
    """
    original = checked_image(original, "original")
    check_original(layout, original, len(rights))
    compared = compared_size(layout.panel)
    restored = []
    for first in range(0, len(rights), layout.tiles):
        row = first % len(layout.boxes)
        picture = row // layout.tiles
        views = [
            View(
                rights[first + i],
                None if lefts is None else lefts[first + i],
                layout.boxes[row + i],
                compared,
                device,
            )
            for i in range(layout.tiles)
        ]
        region = None if layout.source_region is None else layout.source_region[picture]
        restored.append(_restore_one(original[picture], views, region, mode))
    return _stacked(restored)


def restore_edit(edited: Tensor, original: Tensor, mode: str, region: Tensor | None = None) -> Restored:
    """Put edits `n h w 3` of any model back onto their originals, one for all or one for each.

    Args:
        region: optional mask of the originals' shape: where the edit may show.

    Raises:
        ValueError: different shapes or batches, or a bad region.
    """
    device = edited.device
    edited, original = checked_image(edited, "edited"), checked_image(original, "original")
    source = size_of(original)
    check_pair(edited, original)
    cleaned = Region(None) if region is None else clean_region(region, len(edited), source)
    compared = compared_size(size_of(edited))
    restored = []
    for i, edit in enumerate(edited):
        view = View(edit, None, Box(0, 0, source.width, source.height), compared, device)
        selected = None if cleaned.mask is None else cleaned.mask[i] > 0.0
        restored.append(_restore_one(original[i if len(original) > 1 else 0], [view], selected, mode))
    return _stacked(restored, cleaned.notes)


def _restore_one(source: Tensor, views: list[View], region: Tensor | None, mode: str) -> tuple[Tensor, Tensor, str]:
    """One picture `h w 3` with the edits of its tiles put in, inside a region `h w` bool; its changed area; a note."""
    size = Size(source.shape[1], source.shape[0])
    limits = [None if region is None else inside(region, size, view.box, view.compared) for view in views]
    found: list[ViewComparison] | None = None
    note = ""
    if mode == BLEND:
        found = [compare(view, source) for view in views]
        share = changed_share([one.change for one in found], limits)
        # A region says by itself how much may change.
        if share >= NEARLY_ALL and region is None:
            note = f"{share:.0%} of the picture changed, so all of the edit was used, as with resize."
            found = None
        elif share == 0.0:
            note = "The edit shows no change, so the picture is the original. Try another seed or instruction."
    result, changed = source.clone(), torch.zeros(source.shape[:2])
    for i, (view, limit) in enumerate(zip(views, limits, strict=True)):
        edit, weight = _whole_edit(view) if found is None else _changed_part(view, found[i])
        weight = weight if limit is None else torch.minimum(weight, limit)
        fade = view.box.overlap(views[i - 1].box) if i else None
        paste(Piece(edit, weight, view.box, fade, region), source, result, changed)
    return result, changed, note


def _whole_edit(view: View) -> tuple[Tensor, Tensor]:
    """An edit `h w 3` that shows everywhere, and its weight `h w`."""
    return view.edited, torch.ones(view.compared.height, view.compared.width)


def _changed_part(view: View, found: ViewComparison) -> tuple[Tensor, Tensor]:
    """An edit `h w 3` without its drift that shows where it changed something, and its weight `h w`."""
    # Beside the change, not outside the region: there, an edit that ignored it may have changed everything.
    unchanged = ~highest(found.change, 2 * DRIFT_MARGIN + 1)
    drift = drift_between(found.edited, found.original, unchanged).to(view.edited.device)
    return drift.undo(view.edited), around(found.change).cpu()


def _stacked(restored: list[tuple[Tensor, Tensor, str]], notes: tuple[str, ...] = ()) -> Restored:
    """The pictures of a batch as one, each note with the number of its picture where there are several."""
    images, areas, own = zip(*restored, strict=True)
    named = [f"Picture {i}: {note}" if len(own) > 1 else note for i, note in enumerate(own, 1) if note]
    return Restored(as_batch(images), as_batch(areas), (*notes, *named))
