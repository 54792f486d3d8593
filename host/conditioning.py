"""Text and picture conditioning through the host's own nodes."""

import math
from typing import Any

import node_helpers
import nodes
import torch
from torch import Tensor

from ..diptych.region import MUCH, partly_painted, without_noise
from . import tiles

Conditioning = list[Any]
Latent = dict[str, Any]


def encode_prompt(clip: Any, prompt: str, guidance: float) -> Conditioning:
    """Encode a prompt and put FLUX guidance on it; 0 leaves the conditioning's guidance as it is.

    Raises:
        ValueError: when there is no text encoder, or the guidance is no number.
    """
    if not math.isfinite(guidance):
        raise ValueError(f"guidance is {guidance}, expected a finite number. ICEdit uses 50, 0 leaves it as it is.")
    if clip is None:
        raise ValueError(
            "clip is empty: the loader before it brought no text encoder. FLUX.1-Fill files contain none; load "
            "clip_l and t5xxl with DualCLIPLoader, type flux."
        )
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
    if guidance == 0:
        return conditioning
    return node_helpers.conditioning_set_values(conditioning, {"guidance": guidance})


def mask_notes(mask: Tensor) -> list[str]:
    """What a user should know about a maskDiptych `... h w`."""
    share = partly_painted(mask.reshape(-1, *mask.shape[-2:]))
    if share <= MUCH:
        return []
    note = (
        f"{share:.0%} of maskDiptych lies between 0 and 1: there the edit is mixed with the picture, or left out below "
        "half. Use region of Create Diptych, where painted counts as painted in full, or put Threshold Mask before it."
    )
    return [note]


def inpaint_conditioning(
    positive: Conditioning,
    negative: Conditioning,
    vae: Any,
    image: Tensor,
    mask: Tensor,
    noise_rows: list[int] | None = None,
) -> tuple[Conditioning, Conditioning, Latent]:
    """The host's InpaintModelConditioning for images `b h w 3` and a mask `b h w` or `b 1 h w`, checked and cleaned.

    `noise_rows`: for each image which of a seed's noises samplers start it from, the same for the tiles of one picture
    and for no others; without it, each image has its own.

    Raises:
        ValueError: no VAE, rows for another batch, or a mask whose batch or shape does not fit the image.
    """
    if vae is None:
        raise ValueError("vae is empty: the loader before it brought no VAE. Load ae.safetensors with VAELoader.")
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim == 4 and mask.shape[1] == 1:
        mask = mask[:, 0]
    if mask.ndim != 3:
        raise ValueError(f"maskDiptych has the shape {list(mask.shape)}, expected a MASK [batch, height, width].")
    if len(mask) not in (1, len(image)):
        raise ValueError(f"maskDiptych holds {len(mask)} masks for {len(image)} diptychs, expected 1 or {len(image)}.")
    if mask.shape[1] * image.shape[2] != mask.shape[2] * image.shape[1]:
        raise ValueError(
            f"maskDiptych is {mask.shape[2]} x {mask.shape[1]}, but the diptych is {image.shape[2]} x "
            f"{image.shape[1]}. Connect both from the same DiptychCreate."
        )
    # One mask for each picture: samplers repeat a single noise mask in their own ways. With --gpu-only, mask and image
    # may come from different devices, and the host multiplies them.
    mask = without_noise(mask.expand(len(image), -1, -1).to(image.device, torch.float32))
    inpaint = nodes.InpaintModelConditioning()  # pyright: ignore[reportAttributeAccessIssue]
    positive, negative, latent = inpaint.encode(positive, negative, image, vae, mask, noise_mask=True)
    if noise_rows is not None:
        if len(noise_rows) != len(image):
            raise ValueError(
                f"The layout was made for {len(noise_rows)} diptychs, but there are {len(image)}. "
                "Connect diptych and layout of the same DiptychCreate."
            )
        # The host's own key: its samplers start every latent marked i from row i of the seed's noise.
        latent["batch_index"] = noise_rows
        tiles.mark(latent, noise_rows)
    return positive, negative, latent
