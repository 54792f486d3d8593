"""Sampling exactly as KSampler and SamplerCustomAdvanced do, one picture at a time."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import latent_preview
import torch
from torch import Tensor

# They choose their own steps, so they cannot be stopped after n steps of the schedule.
OWN_STEPS = ("dpm_fast", "dpm_adaptive")
SPACIAL, TEMPORAL = "downscale_ratio_spacial", "downscale_ratio_temporal"


def sampler_names() -> list[str]:
    """KSampler's samplers, without those that choose their own steps."""
    return [name for name in comfy.samplers.KSampler.SAMPLERS if name not in OWN_STEPS]


def scheduler_names() -> list[str]:
    """KSampler's schedulers."""
    return list(comfy.samplers.KSampler.SCHEDULERS)


@dataclass(frozen=True)
class Process:
    """A way to sample: guider, sampler and sigmas as SamplerCustomAdvanced takes them; `cast` is what the host's node
    does to the result.

    Raises:
        ValueError: the sampler chooses its own steps, or a number is not finite: the host's range checks let NaN pass.
    """

    guider: Any
    sampler: Any
    sigmas: Tensor
    cast: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        cfg = getattr(self.guider, "cfg", 1.0)
        if isinstance(cfg, int | float) and not math.isfinite(cfg):
            raise ValueError(f"cfg is {cfg}, expected a finite number. 1 for ICEdit and other FLUX models.")
        if not bool(torch.isfinite(self.sigmas).all()):
            raise ValueError(
                "The sigmas hold NaN or infinite values, so there is no schedule to follow. Check the numbers in the "
                "node that makes them."
            )
        name = getattr(getattr(self.sampler, "sampler_function", None), "__name__", "")
        for refused in OWN_STEPS:
            if name in (f"{refused}_function", f"sample_{refused}"):
                raise ValueError(
                    f"The sampler {refused} chooses its own steps, so it cannot be stopped after a given number of "
                    "them. Choose another sampler; ICEdit is used with euler."
                )

    @property
    def steps(self) -> int:
        return max(0, len(self.sigmas) - 1)

    @property
    def model(self) -> Any:
        return self.guider.model_patcher

    def shortened(self, steps: int) -> "Process":
        """The same process in `steps` steps, its sigmas picked evenly from all, with the first and the last one."""
        picked = torch.linspace(0, self.steps, steps + 1).round().long()
        return replace(self, sigmas=self.sigmas[picked])


def ksampler_process(
    model: Any, steps: int, cfg: float, sampler: str, scheduler: str, positive: Any, negative: Any, denoise: float
) -> Process:
    """KSampler's own guider, sampler object and sigmas (it drops the penultimate sigma for some samplers).

    Raises:
        ValueError: cfg or denoise is not finite, or the sampler chooses its own steps.
    """
    if not math.isfinite(denoise):
        raise ValueError(f"denoise is {denoise}, expected 0 to 1. 1 for ICEdit.")
    schedule = comfy.samplers.KSampler(
        model, steps, model.load_device, sampler, scheduler, denoise, model_options=model.model_options
    )
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return Process(guider, comfy.samplers.sampler_object(sampler), schedule.sigmas, _as_ksampler)


def custom_process(guider: Any, sampler: Any, sigmas: Tensor) -> Process:
    """The process of a SamplerCustomAdvanced graph."""
    return Process(guider, sampler, sigmas, lambda samples: samples.to(comfy.model_management.intermediate_device()))


def _as_ksampler(samples: Tensor) -> Tensor:
    management = comfy.model_management
    # Older hosts lack this setting and leave the dtype as it is.
    dtype = management.intermediate_dtype() if hasattr(management, "intermediate_dtype") else samples.dtype
    return samples.to(device=management.intermediate_device(), dtype=dtype)


@dataclass(frozen=True)
class LatentRow:
    """One row of a LATENT.

    Attributes:
        samples: `1 c h w` or `1 c 1 h w`.
        batch_index: which of a seed's noises it starts from; None for the only one.
        index: which row it is, of a LATENT with `batch` rows.
    """

    samples: Tensor
    noise_mask: Tensor | None
    batch_index: list[int] | None
    index: int
    batch: int

    def noise(self, seed: int) -> Tensor:
        """KSampler's noise for this row. Seeds the global generator too, as KSampler does."""
        return comfy.sample.prepare_noise(self.samples, seed, self.batch_index)


def latent_rows(model: Any, latent: Mapping[str, Any]) -> list[LatentRow]:
    """Each row of a LATENT as it would be sampled alone, taken from its batch: with its own one of a seed's noises.

    Raises:
        ValueError: it is no latent of pictures (a video, or video with audio), or its batch_index fits another batch.
    """
    samples = latent["samples"]
    if getattr(samples, "is_nested", False) or samples.ndim not in (4, 5) or len(samples) == 0:
        raise ValueError("latent_image is no picture latent, expected [batch, channels, height, width].")
    rows = _noise_rows(latent, len(samples))
    ratios = [latent.get(SPACIAL)] + ([latent[TEMPORAL]] if TEMPORAL in latent else [])
    found = []
    for index in range(len(samples)):
        one = comfy.sample.fix_empty_latent_channels(model, samples[index : index + 1], *ratios)
        if one.ndim == 5 and one.shape[2] != 1:
            raise ValueError(f"latent_image holds a video of {one.shape[2]} frames. The filter works on pictures only.")
        mask = latent.get("noise_mask")
        # A mask without a batch dimension is for all pictures.
        mask = mask if mask is None or mask.ndim == 2 else row(mask, index)
        found.append(LatentRow(one, mask, None if rows is None else [rows[index]], index, len(samples)))
    return found


def _noise_rows(latent: Mapping[str, Any], count: int) -> list[int] | None:
    """For each picture the row of the seed's noise that it starts from, by the host's rules; None for a single one."""
    rows = latent.get("batch_index")
    if rows is None:
        # The same rows as LatentFromBatch writes for pictures that it takes out of a batch.
        return list(range(count)) if count > 1 else None
    if len(rows) != count:
        raise ValueError(
            f"latent_image holds {count} pictures, but its batch_index says for {len(rows)} which noise they start "
            "from. Some node before this one changed the number of pictures only; leave it out."
        )
    return list(rows)


def run_guider(guider: Any, *args: Any, **kwargs: Any) -> Tensor:
    """The guider's `sample`; afterwards its models are released, also after an error, where the host does not do so."""
    try:
        return guider.sample(*args, **kwargs)
    finally:
        if hasattr(guider, "loaded_models"):
            comfy.sampler_helpers.cleanup_models(guider.conds, guider.loaded_models)


def row(tensor: Tensor, index: int) -> Tensor:
    """Row `index` of a batch, as a batch of one; a shorter batch is repeated, as in the host."""
    first = index % len(tensor)
    # A slice keeps the strides: the host's resizing chooses its kernel by them, and kernels differ in the last bit.
    return tensor[first : first + 1]


def as_output(latent: Mapping[str, Any], samples: Tensor) -> dict[str, Any]:
    """The LATENT that KSampler returns for such samples."""
    return {key: value for key, value in latent.items() if key not in (SPACIAL, TEMPORAL)} | {"samples": samples}


class Progress:
    """One progress bar over several runs of a sampler, with the host's live previews."""

    def __init__(self, model: Any, steps: int) -> None:
        self._show = latent_preview.prepare_callback(model, steps)
        self._done, self._total = 0, steps

    def step(self, x0: Tensor, x: Tensor) -> None:
        """One more step is done."""
        self._show(self._done, x0, x, self._total)
        self._done += 1
