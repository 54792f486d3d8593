"""Transparency: edits happen on white, and can be given their source's transparency back."""

import torch
from torch import Tensor

from .geometry import Box

AS_SOURCE, OPAQUE = "as the source", "opaque"
NEAR = 0.02
"""Of 1/255: a value this near to an 8-bit one is set to it, because nodes that save pictures cut decimals off."""


def alpha_of(image: Tensor) -> Tensor | None:
    """How opaque images `b h w c` in 0..1 are, `b h w` uint8; None where they have no fourth channel or are opaque."""
    if image.ndim != 4 or image.shape[3] != 4:
        return None
    alpha = (image[..., 3].detach().cpu().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    return None if bool((alpha == 255).all()) else alpha


def with_alpha(image: Tensor, alpha: Tensor) -> Tensor:
    """`n h w 4`: pictures `n h w 3` on white, made as transparent as `b h w` (uint8) again; n is a multiple of b.

    The white that shines through is taken out: on any other background it would be a halo.
    """
    result = image.new_empty((*image.shape[:3], 4))
    for index, picture in enumerate(image):
        for part in Box(0, 0, image.shape[2], image.shape[1]).strips():
            strip = slice(part.top, part.bottom)
            opacity = alpha[index % len(alpha), strip, :, None].to(image.device) / 255.0
            own = ((picture[strip] - (1.0 - opacity)) / opacity.clamp(min=1 / 255)).clamp_(0.0, 1.0)
            whole = (own * 255.0).round()
            own = torch.where((own * 255.0 - whole).abs() < NEAR, whole / 255.0, own)
            result[index, strip, :, :3] = torch.where((opacity > 0.0) & (opacity < 1.0), own, picture[strip])
            result[index, strip, :, 3:] = opacity
    return result
