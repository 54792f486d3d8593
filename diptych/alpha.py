"""Transparency: edits happen on white, and can be given their source's transparency back."""

import torch
from torch import Tensor

AS_SOURCE, OPAQUE = "as the source", "opaque"
STRIP = 1 << 20
"""Pixels that are worked on at a time."""
NEAR = 0.02
"""Of 1/255: that near to an 8-bit value, a pixel was one before it was laid on white; savers cut decimals off."""


def alpha_of(image: Tensor) -> Tensor | None:
    """How opaque images `b h w c` in 0..1 are, `b h w` uint8; None where they have no fourth channel or are opaque."""
    if image.ndim != 4 or image.shape[3] != 4:
        return None
    alpha = (image[..., 3].detach().cpu().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    return None if bool((alpha == 255).all()) else alpha


def with_alpha(image: Tensor, alpha: Tensor) -> Tensor:
    """`n h w 4`: pictures `n h w 3` on white, made as transparent as `b h w` (uint8) again; n is a multiple of b.

    The white that shines through is taken out, which would be a halo on any other ground.
    """
    result = image.new_empty((*image.shape[:3], 4))
    rows = max(1, STRIP // image.shape[2])
    for index, picture in enumerate(image):
        for top in range(0, image.shape[1], rows):
            strip = slice(top, top + rows)
            opacity = alpha[index % len(alpha), strip, :, None].to(image.device) / 255.0
            own = ((picture[strip] - (1.0 - opacity)) / opacity.clamp(min=1 / 255)).clamp_(0.0, 1.0)
            whole = (own * 255.0).round()
            own = torch.where((own * 255.0 - whole).abs() < NEAR, whole / 255.0, own)
            result[index, strip, :, :3] = torch.where((opacity > 0.0) & (opacity < 1.0), own, picture[strip])
            result[index, strip, :, 3:] = opacity
    return result
