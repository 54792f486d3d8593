"""Pictures for the judges: decoded previews, the source, and the region that may change."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import comfy.utils
import torch
from torch import Tensor

Item = TypeVar("Item")

CHUNK_BYTES = 32 * 2**20
"""Pictures are decoded in groups of about this size in float32: one by one would be slow, all at once too large."""


def decode(vae: Any, latents: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Decode latents `1 c h w` of one size; pictures `h w 3` in 0..1, of `dtype`, on the CPU."""
    return in_groups(lambda group: vae.decode(torch.cat(list(group))), latents, dtype)


def in_groups(
    decode_group: Callable[[Sequence[Item]], Tensor], items: Sequence[Item], dtype: torch.dtype
) -> list[Tensor]:
    """The same of anything that a group of gives pictures `b h w c`, one for each."""
    pictures: list[Tensor] = []
    count = 1
    while len(pictures) < len(items):
        images = decode_group(items[len(pictures) : len(pictures) + count])
        images = images.reshape(-1, *images.shape[-3:])[..., :3]
        pictures += [image.to(device="cpu", dtype=dtype, copy=True) for image in images]
        count = max(1, CHUNK_BYTES // (4 * math.prod(images.shape[1:])))
    return pictures


def decoded_size(vae: Any, latent: Tensor) -> tuple[int, int]:
    """Height and width in pixels of a decoded latent `1 c h w`."""
    ratio = vae.spacial_compression_decode()
    return latent.shape[-2] * ratio, latent.shape[-1] * ratio


def fitted(image: Tensor, height: int, width: int, crop: str) -> Tensor:
    """A picture `h w 3` of any size as `height width 3`; `crop` is "center" or "disabled", which stretches."""
    if image.shape[:2] == (height, width):
        return image[..., :3].float()
    scaled = comfy.utils.common_upscale(image[None, ..., :3].movedim(-1, 1).float(), width, height, "area", crop)
    return scaled[0].movedim(0, -1).clamp(0.0, 1.0)


def region(noise_mask: Tensor | None, height: int, width: int) -> Tensor | None:
    """One noise mask `1 h w` or `1 1 h w` of any size as `height width`; None where it lets everything change."""
    if noise_mask is None:
        return None
    mask = noise_mask.reshape(-1, 1, *noise_mask.shape[-2:])[:1].float().cpu()
    return torch.nn.functional.interpolate(mask, size=(height, width), mode="bilinear")[0, 0]
