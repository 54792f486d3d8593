"""The smallest edit that the real sampler nodes can run: a diptych of 64 x 32 pixels and 8 tokens of text."""

import json
from typing import Any

import torch

Inputs = dict[str, Any]

SAMPLING: Inputs = {
    "seed": 3, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
}  # fmt: skip
"""What the samplers of this file take where a test says nothing else."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditioning(seed: int, batch: int = 1) -> list[Any]:
    tokens = torch.randn(batch, 8, 32, generator=generator(seed))
    pooled = torch.randn(batch, 32, generator=generator(seed + 1))
    return [[tokens, {"pooled_output": pooled, "guidance": 3.5}]]


def sources(batch: int = 1) -> torch.Tensor:
    """Panels `batch 32 32 3` of coarse random colours, all different."""
    coarse = torch.rand(batch, 4, 4, 3, generator=generator(5))
    return coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)


def edit_inputs(host: Any, vae: Any, masked: bool = True, batch: int = 1) -> Inputs:
    """positive, negative and latent_image for a Fill model; pictures of a batch differ in source and prompt."""
    panels = sources(batch)
    mask = torch.zeros(batch, 32, 64)
    mask[:, :, 32:] = 1.0
    positive, negative, latent = host.call(
        "InpaintModelConditioning", positive=conditioning(10, batch), negative=conditioning(20, batch), vae=vae,
        pixels=torch.cat([panels, panels], dim=2), mask=mask, noise_mask=masked,
    )  # fmt: skip
    return {"positive": positive, "negative": negative, "latent_image": latent}


def early_filter(host: Any, **inputs: Any) -> tuple[torch.Tensor, torch.Tensor, int, Inputs]:
    """Run EarlyFilterSampler with small defaults: the samples, the previews, the winner's seed, the report."""
    defaults = {
        "instruction": "make it red", "candidates": 3, "probe_steps": 1, "keep": 1, "mode": "resume",
        "panel": "right half",
    }  # fmt: skip
    latent, previews, seed, report = host.call("EarlyFilterSampler", **SAMPLING | defaults | inputs)
    return latent["samples"], previews, seed, json.loads(report)


def ksampler(host: Any, **inputs: Any) -> torch.Tensor:
    """Run KSampler with small defaults: the samples."""
    return host.call("KSampler", **SAMPLING | inputs)[0]["samples"]
