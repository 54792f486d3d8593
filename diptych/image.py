"""Pictures as the host passes them, `b h w c` float in 0..1: checking, resampling.

8-bit values survive the round trip through files exactly.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .geometry import Box, Size

UNPAINTED = 0.05
"""Masks up to this are unpainted: lossy files and conversions leave a few 1/255 where there was nothing."""


def size_of(image: Tensor) -> Size:
    """Size of an image `b h w c` or a mask `b h w`."""
    return Size(image.shape[2], image.shape[1])


def checked_image(image: Tensor, what: str = "image_input") -> Tensor:
    """The image as `b h w 3` float32 in 0..1: grey is spread, transparency is laid over white, values are clamped.

    Raises:
        ValueError: when it is no image `b h w c` with 1, 3 or 4 channels, is empty, or holds NaN or infinity.
    """
    if image.ndim != 4 or image.shape[3] not in (1, 3, 4):
        raise ValueError(
            f"{what} has the shape {list(image.shape)}, expected an IMAGE [batch, height, width, 3]. "
            "Connect the output of a node like Load Image."
        )
    if image.numel() == 0:
        raise ValueError(f"{what} is empty: its shape is {list(image.shape)}. Check the node that made it.")
    image = image.detach().float().cpu()
    # aminmax returns NaN if there is one, and needs no copy of a 24-megapixel picture; a clamp would.
    low, high = (float(value) for value in image.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"{what} contains NaN or infinite values, so there is no picture to edit. Check the node that made it; "
            "a VAE in fp16 is a common cause (start ComfyUI with --fp32-vae)."
        )
    if low < 0.0 or high > 1.0:
        image = image.clamp(0.0, 1.0)
    if image.shape[3] == 1:
        return image.expand(-1, -1, -1, 3).contiguous()
    if image.shape[3] == 4:
        alpha = image[..., 3:]
        return image[..., :3] * alpha + (1.0 - alpha)
    return image


def as_batch(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures as one batch; one alone is not copied, because it may have 24 megapixels."""
    return pictures[0][None] if len(pictures) == 1 else torch.stack(tuple(pictures))


def cut(image: Tensor, box: Box) -> Tensor:
    """The part of an image `b h w c` or a mask `b h w` inside a box, as a view."""
    return image[:, box.top : box.bottom, box.left : box.right]


def resize(image: Tensor, size: Size) -> Tensor:
    """Lanczos resampling of `b h w c` to `size`, in float, clamped to 0..1; unchanged if it has that size."""
    if size_of(image) == size:
        return image
    return torch.stack([_resized(picture, size) for picture in image])


def _resized(picture: Tensor, size: Size) -> Tensor:
    # Channel by channel: planes of all three would be another copy of a large picture.
    channels = [resample(planes_of(channel[..., None]), size) for channel in picture.unbind(dim=2)]
    return torch.cat(channels, dim=2).clamp_(0.0, 1.0)


def planes_of(picture: Tensor) -> list[Image.Image]:
    """The channels of one picture `h w c`, each as a float image: pillow's RGB would round to 8 bits."""
    return [Image.fromarray(np.ascontiguousarray(plane)) for plane in picture.permute(2, 0, 1).numpy()]


def resample(
    planes: list[Image.Image],
    size: Size,
    part: tuple[float, float, float, float] | None = None,
    how: Image.Resampling = Image.Resampling.LANCZOS,
) -> Tensor:
    """A picture `h w c`, or its part (left, top, right, bottom), at `size`; not clamped.

    Parts that touch fit together as if the whole had been resampled: pixels next to the part count too.
    """
    resized = [np.asarray(plane.resize((size.width, size.height), how, part)) for plane in planes]
    return torch.from_numpy(np.stack(resized, axis=-1))
