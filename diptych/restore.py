"""Putting an edit back onto its source: at the source's size, and only where something changed."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .change import feathered, find_change
from .colours import Bools, measure_drift
from .geometry import Box, DiptychLayout, Size
from .image import checked_image, cut, resize, size_of
from .panels import crop_right_panel, glance
from .paste import Piece, paste
from .region import checked_region, region_on_panel, same_shape

PANEL, RESIZE, BLEND = "panel", "resize", "blend"
NEARLY_ALL = 0.75
"""From this share on, what is left unchanged is chance, not intent: a style edit."""
REGION_FEATHER = 8.0
"""Panel pixels, one latent: that far the model paints beyond a region."""
COMPARED_PIXELS = 1 << 20
"""Larger edits are compared at this size: the limits of find_change are made for what models put out."""
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
    """What one panel shows: `edited` `h w 3`, what it is compared with, the original there, all of one size."""

    edited: Tensor
    reference: Tensor
    original: Tensor
    allowed: Bools | None


def changed_on_panels(image: Tensor, layout: DiptychLayout | None = None) -> Tensor:
    """`d h w` in 0..1: where the right panels of diptychs `d h (2 w) 3` differ from the left ones.

    Raises:
        ValueError: when the image is no diptych of this layout.
    """
    right = crop_right_panel(image, layout)
    left = checked_image(image, "image")[:, :, : right.shape[2]]
    changes = [find_change(edited, reference) for edited, reference in zip(right.numpy(), left.numpy(), strict=True)]
    return torch.stack([torch.from_numpy(feathered(change)) for change in changes])


def restore_panels(image: Tensor, layout: DiptychLayout, original: Tensor, mode: str) -> Restored:
    """Put the right panels of decoded diptychs `d h (2 w) 3` back onto the pictures they were made from, `b h w 3`.

    Several rounds of the layout's diptychs, such as candidates, give as many rounds of pictures.

    Args:
        mode: "resize" puts back all that the panel shows, "blend" only what differs from the left panel. Outside a
            region and its feather neither changes a pixel.

    Raises:
        ValueError: a layout or original of another picture.
    """
    panels = crop_right_panel(image, layout)
    lefts = checked_image(image, "image")[:, :, : panels.shape[2]]
    original = checked_image(original, "original")
    _check_original(layout, original, len(panels))
    restored = []
    for first in range(0, len(panels), layout.tiles):
        row = first % len(layout.boxes)
        boxes = layout.boxes[row : row + layout.tiles]
        source = original[row // layout.tiles]
        edits = panels[first : first + layout.tiles]
        views = [
            View(
                edited=resize(edits[i : i + 1], layout.panel)[0],
                reference=resize(lefts[first + i : first + i + 1], layout.panel)[0],
                original=resize(cut(source[None], box), layout.panel)[0],
                allowed=None if layout.region is None else layout.region[row + i].numpy() > 0.0,
            )
            for i, box in enumerate(boxes)
        ]
        restored.append(_restore_one(source, edits, views, boxes, mode))
    return _stacked(restored)


def restore_edit(edited: Tensor, original: Tensor, mode: str, region: Tensor | None = None) -> Restored:
    """The same for edits `n h w 3` of any model and their originals, one for all or one for each.

    Args:
        region: optional mask of the originals' shape: where the edit may show.

    Raises:
        ValueError: different shapes or batches, or a bad region.
    """
    edited, original = checked_image(edited, "edited"), checked_image(original, "original")
    source, size = size_of(original), size_of(edited)
    _check_pair(edited, original)
    if region is not None:
        region = checked_region(region, len(edited), source)
    compared = _within(size, COMPARED_PIXELS)
    whole = (Box(0, 0, source.width, source.height),)
    restored = []
    for i in range(len(edited)):
        picture = original[i if len(original) > 1 else 0]
        small = resize(picture[None], compared)[0]
        allowed = None if region is None else region_on_panel(region[i], source, whole[0], compared).numpy() > 0.0
        view = View(resize(edited[i : i + 1], compared)[0], small, small, allowed)
        restored.append(_restore_one(picture, edited[i : i + 1], [view], whole, mode))
    return _stacked(restored)


def _restore_one(
    source: Tensor, edits: Tensor, views: list[View], boxes: tuple[Box, ...], mode: str
) -> tuple[Tensor, Tensor, str]:
    """One picture `h w 3` with the edits of its tiles `t h w 3` put in; its changed area; a note."""
    changes: list[Bools] | None = None
    note = ""
    if mode == BLEND:
        changes = [find_change(view.edited.numpy(), view.reference.numpy()) for view in views]
        share = _share(changes, views)
        # A region says by itself how much may change.
        if share >= NEARLY_ALL and views[0].allowed is None:
            note = f"{share:.0%} of the picture changed, so all of the edit was used, as with resize."
            changes = None
        elif share == 0.0:
            note = "The edit shows no change, so the picture is the original. Try another seed or instruction."
    pieces = []
    for i, (view, box) in enumerate(zip(views, boxes, strict=True)):
        weight, edit = _weight(view, None if changes is None else changes[i]), edits[i]
        if changes is not None:
            # Not where the weight is 0: outside a region, an edit that ignored it may have changed everything.
            unchanged = feathered(changes[i]) == 0.0
            drift = measure_drift(view.edited.numpy(), view.original.numpy(), unchanged)
            edit = torch.from_numpy(drift.undo(edit.numpy()))
        pieces.append(Piece(edit, torch.from_numpy(weight), box, box.overlap(boxes[i - 1]) if i else None))
    result, changed = source.clone(), torch.zeros(source.shape[:2])
    for piece in pieces:
        paste(piece, source, result, changed)
    return result, changed, note


def _weight(view: View, area: Bools | None) -> np.ndarray:
    """How much of the edit shows, on the panel; everything that may where no area is given."""
    weight = np.ones(view.edited.shape[:2], np.float32) if area is None else feathered(area)
    return weight if view.allowed is None else np.minimum(weight, feathered(view.allowed, 0.0, REGION_FEATHER))


def _share(changes: list[Bools], views: list[View]) -> float:
    """Changed share of what may change."""
    allowed = [np.ones_like(c) if v.allowed is None else v.allowed for c, v in zip(changes, views, strict=True)]
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


def _stacked(restored: list[tuple[Tensor, Tensor, str]]) -> Restored:
    images, areas, notes = zip(*restored, strict=True)
    named = [f"Picture {i}: {note}" if len(notes) > 1 else note for i, note in enumerate(notes, 1) if note]
    return Restored(_batch(images), _batch(areas), tuple(named))


def _batch(parts: tuple[Tensor, ...]) -> Tensor:
    # A batch of one, the usual case, is not copied: it may be a 24-megapixel picture.
    return parts[0][None] if len(parts) == 1 else torch.stack(parts)
