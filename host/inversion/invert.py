"""Inverting source pictures with a text-to-image FLUX (paper section 3.1, training-free framework)."""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import comfy.ldm.flux.model
import comfy.model_base
import comfy.model_sampling
import comfy.samplers
import node_helpers
import torch
from torch import Tensor

from ...diptych.geometry import SNAP
from ...inversion.report import InversionResult, inversion_report
from ...inversion.schedule import Schedule
from ...inversion.solver import relative_error
from ...inversion.values import Block, TokenGrid, ValuePlan, ValueStore
from ..compiled import uncompiled
from ..conditioning import Conditioning, Latent
from ..conditioning_rows import Conds, conditioning_rows
from ..interrupts import poll
from ..sampling import Progress, ksampler_process, run_guider
from .attention import hold_in_ram, make_room
from .model import InversionError, InversionReplay, InvertedPicture, without_replay
from .model_check import flux_of
from .sampler import InversionSampler, Recorder


@dataclass(frozen=True)
class Settings:
    """What the user set. `inversion_guidance` 0 leaves the conditioning's own; `check` also samples the source back.

    Raises:
        ValueError: a guidance that is no number.
    """

    corrections: int
    inversion_guidance: float
    step_share: float
    block_share: float
    memory_limit: float
    check: bool

    def __post_init__(self) -> None:
        if not math.isfinite(self.inversion_guidance):
            raise ValueError(
                f"inversion_guidance is {self.inversion_guidance}, expected a finite number. 1 stays nearest to the "
                "picture, 0 leaves the guidance of source_prompt."
            )


def schedule_of(model: Any, steps: int, scheduler: str, denoise: float, sigmas: Tensor | None = None) -> Schedule:
    """KSampler's sigmas with euler, or the given ones."""
    if sigmas is None:
        sigmas = ksampler_process(model, steps, 1.0, "euler", scheduler, [], [], denoise).sigmas
    return Schedule(sigmas.float().cpu())


def invert_sources(
    model: Any, prompt: Conditioning, vae: Any, diptych: Tensor, schedule: Schedule, settings: Settings
) -> tuple[Any, Latent, str]:
    """Invert the left panels of diptychs `b h (2 w) 3`, each alone, with a model that passed `check_model`.

    Returns:
        A clone of the model that samples these diptychs, the latent to sample, and the report.

    Raises:
        InversionError: a VAE, prompt or picture that cannot be used, or a model that does not show its values.
        ValueError: settings out of range, or more memory than they allow.
    """
    model = without_replay(model)
    flux = flux_of(model)
    patch = flux.patch_size
    _check_prompt(prompt)
    latents = _encode(model, vae, diptych)
    width = latents.shape[-1] // 2
    plan = ValuePlan.of(schedule.steps, _blocks(flux), settings.step_share, settings.block_share)
    tokens = len(latents) * (latents.shape[-2] // patch) * (width // patch)
    nbytes = plan.nbytes(tokens, flux.hidden_size, _activation_dtype(model))
    plan.check(nbytes, settings.memory_limit)
    make_room(nbytes)
    if settings.inversion_guidance:
        prompt = node_helpers.conditioning_set_values(prompt, {"guidance": settings.inversion_guidance})
    converted = _guider(model, prompt).original_conds
    progress = Progress(model, len(latents) * schedule.steps * (2 if settings.check else 1))
    pictures, results = [], []
    for index in range(len(latents)):
        conds = conditioning_rows(converted, index, len(latents))
        inversion = _Inversion(model, conds, schedule, patch, progress)
        picture, result = inversion.run(latents[index : index + 1, ..., :width], plan, settings)
        pictures.append(picture)
        results.append(result)
    text = inversion_report(
        schedule, settings.corrections, settings.inversion_guidance, results, [p.values for p in pictures]
    )
    return InversionReplay(tuple(pictures), schedule, patch).patched(model), {"samples": latents}, text


class _Inversion:
    """The inversion of one picture of a batch, with its row of the prompt."""

    def __init__(self, model: Any, conds: Conds, schedule: Schedule, patch: int, progress: Progress) -> None:
        self._model, self._conds, self._schedule, self._patch = model, conds, schedule, patch
        self._progress = progress

    def run(self, source: Tensor, plan: ValuePlan, settings: Settings) -> tuple[InvertedPicture, InversionResult]:
        """Invert a latent `1 c h w`."""
        begun = time.perf_counter()
        values = ValueStore(plan, hold_in_ram)
        height, width = source.shape[-2:]
        grid = TokenGrid(height // self._patch, width // self._patch, width // self._patch)
        recorder = Recorder(values, grid, (height, width), self._schedule)
        sampler = InversionSampler(self._schedule, settings.corrections, recorder, self._progress.step)
        with uncompiled() if plan.steps else nullcontext():
            self._sample(self._model, sampler, source, self._schedule.sigmas.flip(0))
        assert sampler.result is not None and sampler.noise is not None
        picture = InvertedPicture(source.float().cpu(), sampler.noise.float().cpu(), values)
        inverted = time.perf_counter()
        error = self._reconstruction_error(picture) if settings.check else None
        return picture, InversionResult(
            sampler.result.residual,
            error,
            {"inversion": sampler.result.evaluations, "check": self._schedule.steps if settings.check else 0},
            {"inversion": inverted - begun, "check": time.perf_counter() - inverted},
        )

    def _reconstruction_error(self, picture: InvertedPicture) -> float:
        model = InversionReplay((picture,), self._schedule, self._patch).patched(self._model)
        samples = self._sample(model, comfy.samplers.sampler_object("euler"), picture.source, self._schedule.sigmas)
        return relative_error(samples.float().cpu(), picture.source)

    def _sample(self, model: Any, sampler: Any, latent: Tensor, sigmas: Tensor) -> Tensor:
        guider = _guider(model, [])
        guider.original_conds = self._conds

        def after_step(step: int, x0: Tensor, x: Tensor, total: int) -> None:  # noqa: ARG001
            poll()
            self._progress.step(x0, x)

        noise = torch.zeros_like(latent)
        return run_guider(guider, noise, latent, sampler, sigmas, callback=after_step, disable_pbar=True, seed=0)


def _guider(model: Any, prompt: Conditioning) -> Any:
    """At cfg 1: the prompt alone."""
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": prompt})
    return guider


def _blocks(flux: Any) -> list[Block]:
    """All blocks in the order in which the model runs them."""
    count = {"double": len(flux.double_blocks), "single": len(flux.single_blocks)}
    return [(kind, index) for kind, blocks in count.items() for index in range(blocks)]


def _activation_dtype(model: Any) -> torch.dtype:
    return model.get_model_object("manual_cast_dtype") or model.model_dtype()


def _check_prompt(prompt: Conditioning) -> None:
    if len(prompt) != 1:
        raise InversionError(
            f"source_prompt holds {len(prompt)} conditionings, expected one sentence about the source picture, from "
            "one CLIP Text Encode."
        )


def _encode(model: Any, vae: Any, diptych: Tensor) -> Tensor:
    """Every panel encoded alone, so that none shows through in another: `b c h (2 w)`."""
    if vae is None:
        raise InversionError("vae is empty: the loader before it brought no VAE. Load ae.safetensors with VAELoader.")
    height, width = diptych.shape[1:3]
    if height % SNAP or width % (2 * SNAP):
        raise InversionError(
            f"The diptych is {width} x {height}, expected two panels whose sides are multiples of {SNAP}. Connect "
            "diptych of Create Diptych, which makes them so."
        )
    rows = [[vae.encode(panel) for panel in one[None].split(width // 2, dim=2)] for one in diptych]
    latents = torch.cat([torch.cat(panels, dim=-1) for panels in rows])
    channels = model.get_model_object("latent_format").latent_channels
    if latents.ndim != 4 or latents.shape[1] != channels:
        raise InversionError(
            f"This VAE makes latents of {latents.shape[1]} channels, FLUX.1 takes {channels}. Load ae.safetensors."
        )
    return latents
