"""In-Context Inversion of a tiny diptych, and KSampler on what it gives."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from .tiny_edit import Inputs, conditioning, ksampler, sources

STEPS = 4
PANEL = 4
"""Width of a panel's latent."""


def diptych(batch: int = 1) -> Tensor:
    panels = sources(batch)
    return torch.cat([panels, panels], dim=2)


@pytest.fixture(scope="module")
def text_to_image(host: Any) -> Inputs:
    """The tiny text-to-image FLUX and its VAE."""
    return {"model": host.load_model(name="flux1-dev.safetensors"), "vae": host.load_vae()}


@pytest.fixture
def inverted(host: Any, text_to_image: Inputs) -> Callable[..., tuple[Any, Inputs, Inputs]]:
    """Runs InContextInversion with small defaults, changes by name: the model, the latent, the report."""

    def run(**changes: Any) -> tuple[Any, Inputs, Inputs]:
        inputs = {
            **text_to_image, "source_prompt": conditioning(1), "diptych": diptych(), "steps": STEPS,
            "scheduler": "simple", "denoise": 1.0, "inversion_guidance": 1.0, "corrections": 2, "step_share": 1.0,
            "block_share": 1.0, "memory_limit": 4.0, "check": False,
        }  # fmt: skip
        model, latent, report = host.call("InContextInversion", **inputs | changes)
        return model, latent, json.loads(report)

    return run


@pytest.fixture
def edited(host: Any) -> Callable[..., Tensor]:
    """Runs KSampler on an inverted model and its latent with small defaults, changes by name: the samples."""

    def run(model: Any, latent: Inputs, **changes: Any) -> Tensor:
        inputs = {"model": model, "latent_image": latent, "positive": conditioning(7), "negative": conditioning(9)}
        return ksampler(host, **inputs | {"steps": STEPS} | changes)

    return run


def pictures(model: Any) -> Any:
    """What a model holds of its inverted pictures."""
    from comfy.patcher_extension import WrappersMP
    from icedit.host.inversion.attention import INVERSION_KEY

    (wrapper,) = model.get_wrappers(WrappersMP.OUTER_SAMPLE, INVERSION_KEY)
    return wrapper.__self__.pictures
