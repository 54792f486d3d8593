"""A model whose sampling runs reuse known tokens. Any sampler works with it unchanged: it learns the mask from the run."""

from dataclasses import dataclass
from typing import Any

import comfy.ldm.flux.model
import comfy.model_base
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...known_tokens.control import ReuseSettings
from ...known_tokens.tokens import known_tokens
from .attention import KNOWN_TOKENS_KEY
from .run import KnownTokensRun


class ReuseError(ValueError):
    """The model's tokens cannot be reused."""


def reuse_known_tokens(model: Any, settings: ReuseSettings) -> Any:
    """A clone of the model that computes known tokens in some steps only.

    Raises:
        ReuseError: the model is no FLUX.1.
    """
    patch = _flux(model).patch_size
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KNOWN_TOKENS_KEY)
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KNOWN_TOKENS_KEY, _Reuse(settings, patch).on_sample)
    return clone


def _flux(model: Any) -> Any:
    flux = getattr(model.model, "diffusion_model", None)
    # The module inside the one that torch.compile makes.
    flux = getattr(flux, "_orig_mod", flux)
    # FLUX.2 and others are subclasses.
    if type(model.model) is not comfy.model_base.Flux or not isinstance(flux, comfy.ldm.flux.model.Flux):
        raise ReuseError(
            f"The model is {type(model.model).__name__}, expected a FLUX.1 such as flux1-fill-dev.safetensors. Leave "
            "this node out for other models."
        )
    return flux


@dataclass(frozen=True)
class _Reuse:
    settings: ReuseSettings
    patch: int

    def on_sample(
        self,
        executor: Any,
        noise: Tensor,
        latent: Tensor,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """The OUTER_SAMPLE wrapper."""
        if denoise_mask is None or self.settings.refresh_every == 1:
            return executor(noise, latent, sampler, sigmas, denoise_mask, *args, **kwargs)
        known = known_tokens(denoise_mask, self.patch)
        run = KnownTokensRun(self.settings, known, latent.shape, sigmas)
        # The host copies the options for each run, so the wrapper ends with the run and no other run meets it.
        wrappers = executor.class_obj.model_options["transformer_options"].setdefault("wrappers", {})
        wrappers.setdefault(WrappersMP.CALC_COND_BATCH, {})[KNOWN_TOKENS_KEY] = [run.on_evaluation]
        try:
            return executor(noise, latent, sampler, sigmas, denoise_mask, *args, **kwargs)
        finally:
            run.close()
