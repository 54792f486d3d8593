"""Composing a diptych and its mask from a source picture, and taking the right panel out again."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .fit import DEFAULT_MARGIN, WIDTH, fit_layout
from .geometry import TRAINED_WIDTH, DiptychLayout, Size, same_shape
from .image import checked_image, cut, resize, size_of
from .matching import check_original, glance
from .region import Region, check_paintable, clean_region, extent, region_on_panel

GREY = 0.5


@dataclass(frozen=True)
class Diptych:
    """Two panels side by side, `image` `b h (2 w) 3`, with `mask` `b h (2 w)`: 0 is kept, 1 is generated.

    `notes`: what a user should know about it.
    """

    image: Tensor
    mask: Tensor
    layout: DiptychLayout
    notes: tuple[str, ...] = ()


def make_diptych(
    source: Tensor,
    panel_width: int = TRAINED_WIDTH,
    region: Tensor | None = None,
    right_panel: str = "copy",
    fit: str = WIDTH,
    margin: float = DEFAULT_MARGIN,
    alpha: Tensor | None = None,
) -> Diptych:
    """Lay source pictures `b h w 3` into both panels (paper section 3.1).

    Args:
        source: pictures in 0..1, of one size.
        panel_width: pixels, snapped to 16; the height follows from the aspect ratio.
        region: optional mask `b h w` of the source's shape, batch 1 or b: where the right panel may change; see
            clean_region.
        right_panel: "copy" starts the right panel from the source, "grey" from mid-grey. With a denoise below 1 the
            start shows through.
        fit: which part of the source the panels show, see fit_layout. Tiles give several diptychs for each picture.
        margin: for fit crop_to_region, see fit_layout.
        alpha: `b h w` uint8, how opaque the pictures were before they were laid over white; for the layout.

    Raises:
        ValueError: bad panel size, fit or region.
    """
    size = size_of(source)
    cleaned = Region(None) if region is None else clean_region(region, len(source), size)
    region = cleaned.mask
    extents = None if region is None else [extent(mask, size) for mask in region]
    layout = fit_layout(size, len(source), fit, panel_width, extents, margin)
    on_panels = None if region is None else _regions_on_panels(region, layout)
    selected = None if region is None else region > 0.0
    layout = replace(layout, region=on_panels, source_region=selected, glance=glance(source), alpha=alpha)
    left = torch.cat([resize(cut(source[i : i + 1], box), layout.panel) for i, box in layout.shown()])
    right = left if right_panel == "copy" else torch.full_like(left, GREY)
    generated = torch.ones(left.shape[:3]) if on_panels is None else on_panels
    return Diptych(
        image=torch.cat([left, right], dim=2),
        mask=torch.cat([torch.zeros_like(generated), generated], dim=2),
        layout=layout,
        notes=cleaned.notes,
    )


def _regions_on_panels(region: Tensor, layout: DiptychLayout) -> Tensor:
    """`d h w`: the regions `b h w` as each diptych's right panel sees them."""
    masks = torch.stack([region_on_panel(region[i], layout.source, box, layout.panel) for i, box in layout.shown()])
    for picture in masks.split(layout.tiles):
        check_paintable(picture)
    return masks


def crop_right_panel(image: Tensor, layout: DiptychLayout | None = None) -> Tensor:
    """The right panel of diptychs `b h (2 w) 3`; an upscaled diptych gives an upscaled panel.

    Raises:
        ValueError: when the image is no diptych of this layout.
    """
    image = checked_image(image, "image")
    height, width = image.shape[1:3]
    if width < 2:
        raise ValueError(f"The image is {width} x {height}: it has no right half. Connect the decoded diptych.")
    if layout is not None:
        check_diptych(size_of(image), layout)
    return image[:, :, (width + 1) // 2 :]


def check_diptych(size: Size, layout: DiptychLayout) -> None:
    """Check that a diptych of this size can be the layout's.

    Raises:
        ValueError: when it has another shape.
    """
    if not same_shape(size, layout.diptych):
        raise ValueError(
            f"The image is {size.width} x {size.height}, but the layout belongs to a diptych of {layout.diptych}. "
            "Connect the layout of the same DiptychCreate that this picture came from."
        )


def left_panels(layout: DiptychLayout, original: Tensor, diptychs: int, size: Size) -> Tensor:
    """The left panels `d h w 3` of `size`, as make_diptych laid the original pictures `b h w 3` into them.

    Raises:
        ValueError: a layout of other pictures, or of another number of diptychs.
    """
    original = checked_image(original, "original")
    check_original(layout, original, diptychs)
    panels = torch.cat([resize(cut(original[i : i + 1], box), size) for i, box in layout.shown()])
    return panels.repeat(diptychs // len(panels), 1, 1, 1)


def both_panels(image: Tensor, layout: DiptychLayout | None = None) -> tuple[Tensor, Tensor]:
    """The left and the right panels of diptychs, `b h w 3` each.

    Raises:
        ValueError: when the image is no diptych of this layout.
    """
    right = crop_right_panel(image, layout)
    return checked_image(image[:, :, : right.shape[2]], "image"), right
