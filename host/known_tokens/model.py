"""A model whose sampling runs reuse known tokens. Samplers work with it unchanged: it learns the mask from the run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.ldm.flux.layers
import comfy.ldm.flux.model
import comfy.model_base
import comfyui_version
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...known_tokens.control import ReuseSettings, Unchanged
from ...known_tokens.report import BESIDE_CACHE, NOTHING_KNOWN, NOTHING_OPEN
from ...known_tokens.tokens import known_tokens
from ..compiled import inside_compiled, will_be_compiled
from ..step_caches import HOSTS_CACHE, step_cache
from .attention import KNOWN_TOKENS_KEY
from .foreign import CallInputs
from .run import KnownTokensRun

Tell = Callable[[str], None]
"""Shows a note to the user."""


class ReuseError(ValueError):
    """The model's tokens cannot be reused."""


def reuse_known_tokens(model: Any, settings: ReuseSettings, tell: Tell = lambda _: None) -> Any:
    """A clone of the model that computes known tokens in some steps only; where ComfyUI is too old, one that computes
    everything, which the user is told.

    Raises:
        ReuseError: the model is no FLUX.1.
    """
    patch = _flux(model).patch_size
    clone = model.clone()
    if not _shows_attention():
        tell(
            f"FLUX of ComfyUI {comfyui_version.__version__} does not hand its attention to patches (attn1_patch), so "
            "everything is computed, as without this node. Update ComfyUI."
        )
        return clone
    clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KNOWN_TOKENS_KEY)
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KNOWN_TOKENS_KEY, _Reuse(settings, patch, tell).on_sample)
    return clone


def _flux(model: Any) -> Any:
    flux = inside_compiled(getattr(model.model, "diffusion_model", None))
    # FLUX.2 and others are subclasses.
    if type(model.model) is not comfy.model_base.Flux or not isinstance(flux, comfy.ldm.flux.model.Flux):
        raise ReuseError(
            f"The model is {type(model.model).__name__}, expected a FLUX.1 such as flux1-fill-dev.safetensors. Leave "
            "this node out for other models."
        )
    return flux


def _shows_attention() -> bool:
    """By the names that its blocks use: there is no other sign."""
    block = comfy.ldm.flux.layers.SingleStreamBlock.forward
    return "attn1_patch" in block.__code__.co_consts


@dataclass(frozen=True)
class _Reuse:
    settings: ReuseSettings
    patch: int
    tell: Tell

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
        guider, rest = executor.class_obj, (sampler, sigmas, denoise_mask, *args)
        run = self._run(guider, latent, sigmas, denoise_mask)
        if run is None:
            return executor(noise, latent, *rest, **kwargs)
        _wrap(guider, run)
        try:
            result = executor(noise, latent, *rest, **kwargs)
        finally:
            run.close()
        self.tell(run.tally.text())
        return result

    def _run(self, guider: Any, latent: Tensor, sigmas: Tensor, mask: Tensor | None) -> KnownTokensRun | None:
        """None where nothing can be saved, which the user is told unless it was asked for."""
        if self.settings.idle:
            return None
        if latent.ndim != 4 or len(sigmas) < 2:
            self.tell(NOTHING_KNOWN)
            return None
        cache = step_cache(guider.model_patcher, guider.model_options)
        if cache not in (None, HOSTS_CACHE):
            self.tell(f"{BESIDE_CACHE} The model carries {cache}.")
            return None
        masked = known_tokens(latent.new_ones(latent.shape) if mask is None else mask, self.patch)
        references = _reference_tokens(guider.conds, self.patch)
        if masked.all():
            self.tell(NOTHING_OPEN)
            return None
        looks = self.settings.unchanged is Unchanged.FOUND and self.settings.refresh_every > 1
        notes = [] if looks or masked.any() or references else [NOTHING_KNOWN]
        if notes and not self.settings.skip_steps:
            self.tell(NOTHING_KNOWN)
            return None
        run = KnownTokensRun(self.settings, masked, self.patch, latent.shape, sigmas, references)
        run.tally.notes += notes + _cautions(self.settings, len(sigmas) - 1)
        if self.settings.refresh_every > 1 and will_be_compiled(guider.model_patcher):
            run.run_uncompiled()
        if looks:
            # On another device than the model's until the host has moved it, as the latent itself.
            source = guider.model_patcher.model.process_latent_in(latent) if bool(latent.any()) else latent
            run.look_for_unchanged(source.float().to(guider.model_patcher.load_device))
        return run


def _cautions(settings: ReuseSettings, steps: int) -> list[str]:
    if settings.refresh_every < steps:
        return []
    given = f"refresh_every is {settings.refresh_every} and there are {steps} steps"
    return [f"{given}, so known tokens are computed in the first ones only."]


def _reference_tokens(conds: Any, patch: int) -> int:
    """Of the conditioning that has most."""
    found = [
        CallInputs(None, {"ref_latents": cond.get("reference_latents")}).reference_tokens(patch)
        for group in conds.values()
        for cond in group
    ]
    return max(found, default=0)


def _wrap(guider: Any, run: KnownTokensRun) -> None:
    """Put the run's wrappers into its options, which the host copies for each run: they end with it, and no other run
    meets them."""
    options = guider.model_options
    if "denoise_mask_function" in options:
        options["denoise_mask_function"] = run.observing(options["denoise_mask_function"])
    wrappers = options["transformer_options"].setdefault("wrappers", {})
    # Outside all others: what an early filter answers from its recordings counts as evaluated.
    evaluating = {KNOWN_TOKENS_KEY: [run.on_evaluation]}
    wrappers[WrappersMP.CALC_COND_BATCH] = evaluating | wrappers.get(WrappersMP.CALC_COND_BATCH, {})
    wrappers.setdefault(WrappersMP.PREPARE_SAMPLING, {})[KNOWN_TOKENS_KEY] = [run.on_prepare]
