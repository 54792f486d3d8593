"""Composing a diptych and its mask from a source picture, and taking the right panel out again."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import DiptychLayout, Size, panel_size
from .image import checked_image, resize, size_of

GREY = 0.5


@dataclass(frozen=True)
class Diptych:
    """Two panels side by side, `image` `b h (2 w) 3`, with `mask` `b h (2 w)`: 0 is kept, 1 is generated."""

    image: Tensor
    mask: Tensor
    layout: DiptychLayout


def make_diptych(
    source: Tensor, panel_width: int, region: Tensor | None = None, right_panel: str = "copy"
) -> Diptych:
    """Lay a source picture `b h w 3` into both panels (paper section 3.1).

    Args:
        source: pictures in 0..1.
        panel_width: pixels, snapped to 16; the height follows from the aspect ratio.
        region: optional mask `b h w` of any size, batch 1 or b: where the right panel may change.
        right_panel: "copy" starts the right panel from the source, "grey" from mid-grey. With a denoise below 1 the
            start shows through.

    Raises:
        ValueError: bad panel size or region.
    """
    layout = DiptychLayout(panel=panel_size(size_of(source), panel_width), source=size_of(source))
    left = resize(source, layout.panel)
    right = left if right_panel == "copy" else torch.full_like(left, GREY)
    generated = _right_mask(region, batch=len(source), panel=layout.panel)
    return Diptych(
        image=torch.cat([left, right], dim=2),
        mask=torch.cat([torch.zeros_like(generated), generated], dim=2),
        layout=layout,
    )


def _right_mask(region: Tensor | None, batch: int, panel: Size) -> Tensor:
    if region is None:
        return torch.ones(batch, panel.height, panel.width)
    region = checked_region(region, batch)
    scaled = F.interpolate(region[:, None], (panel.height, panel.width), mode="bilinear", antialias=True)[:, 0]
    return scaled.clamp(0.0, 1.0)


def checked_region(region: Tensor, batch: int) -> Tensor:
    """The region as `batch h w` float32 in 0..1.

    Raises:
        ValueError: wrong shape or batch, NaN, or nothing selected.
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
    if not bool(torch.isfinite(region).all()):
        raise ValueError("region contains NaN or infinite values. Check the node that made the mask.")
    if not bool((region.amax(dim=(1, 2)) > 0.0).all()):
        raise ValueError(
            "region is empty, so nothing may change. Paint the area to edit (right-click the picture, Open in "
            "MaskEditor), or disconnect region to edit the whole picture."
        )
    return region.clamp(0.0, 1.0).expand(batch, -1, -1)


def crop_right_panel(image: Tensor, layout: DiptychLayout | None = None) -> Tensor:
    """The right panel of diptychs `b h (2 w) 3`; an upscaled diptych gives an upscaled panel.

    Raises:
        ValueError: when the image is no diptych of this layout.
    """
    image = checked_image(image, "image")
    height, width = image.shape[1:3]
    if width < 2:
        raise ValueError(f"The image is {width} x {height}: it has no right half. Connect the decoded diptych.")
    if layout is not None and width * layout.diptych.height != height * layout.diptych.width:
        raise ValueError(
            f"The image is {width} x {height}, but the layout belongs to a diptych of {layout.diptych}. "
            "Connect the layout of the same DiptychCreate that this picture came from."
        )
    return image[:, :, (width + 1) // 2 :]
