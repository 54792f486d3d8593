"""Which models can be inverted, and what users should know about theirs."""

from typing import Any

import comfy.ldm.flux.model
import comfy.model_base
import comfy.model_sampling

from ..compiled import inside_compiled
from ..step_caches import has_lazy_cache, step_cache, unknown_wrapper
from .model import InversionError

TEXT_TO_IMAGE = 64
"""Input features of a text-to-image FLUX: 16 latent channels in patches of 2 x 2."""
FILL = 384


def check_model(model: Any) -> None:
    """Refuse what is no text-to-image FLUX.1.

    Raises:
        InversionError: with what to load.
    """
    flux = flux_of(model)
    # FLUX.2 and others are subclasses, with other latents.
    if type(model.model) is not comfy.model_base.Flux or not isinstance(flux, comfy.ldm.flux.model.Flux):
        raise InversionError(
            f"The model is {type(model.model).__name__}, expected a text-to-image FLUX.1. Load flux1-dev.safetensors."
        )
    if flux.in_channels != TEXT_TO_IMAGE:
        fill = " (FLUX.1-Fill)" if flux.in_channels == FILL else ""
        raise InversionError(
            f"The model takes {flux.in_channels} input channels{fill}, expected {TEXT_TO_IMAGE}: inversion works with "
            "a text-to-image FLUX.1. Load flux1-dev.safetensors."
        )
    if not isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
        raise InversionError(
            "A node before this one made the model predict something else than a flow's velocity, such as "
            "ModelSamplingDiscrete. Remove it."
        )
    cache = "a LazyCache" if has_lazy_cache(model) else step_cache(model, model.model_options)
    if cache:
        raise InversionError(
            f"The model carries {cache}, which would skip evaluations of the inversion. Put it after In-Context "
            "Inversion."
        )


def inversion_cautions(model: Any) -> list[str]:
    """What users should know about their model before they trust the inversion."""
    wrapper = unknown_wrapper(model, model.model_options)
    if wrapper is None:
        return []
    note = (
        f"The model carries a wrapper that is not ComfyUI's ({wrapper}). The inversion is right only if it keeps no "
        "state between steps. If it does, as step caches do, put its node after In-Context Inversion."
    )
    return [note]


def flux_of(model: Any) -> Any:
    """The diffusion model itself."""
    return inside_compiled(getattr(model.model, "diffusion_model", None))
