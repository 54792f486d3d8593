"""A model that starts every diptych's left panel from its source's inverted noise and puts the kept values in.

Any sampler works with it unchanged: a wrapper around sampling swaps the left half of the noise, and one around the
model's calls replaces attention values. Both ride on a clone of the model.
"""

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import comfy.model_management
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...inversion.schedule import Schedule
from ...inversion.solver import relative_error
from ...inversion.values import TokenGrid, ValueStore
from .attention import INVERSION_KEY, Options, Writing, uncompiled, writing_options

log = logging.getLogger(__name__)

RUN = f"{INVERSION_KEY}_run"
SAME_PICTURE = 0.01
"""Relative difference up to which two latents are the same picture: more than a change of dtype makes."""

CONNECT = "Connect latent of the node In-Context Inversion to the sampler, as it is."


class InversionError(ValueError):
    """The model cannot be inverted, or what is sampled is not what was inverted."""


@dataclass(frozen=True, eq=False)
class InvertedPicture:
    """A source latent `1 c h w` as the VAE made it, its noise `1 c h w` as a sampler takes it, and its values."""

    source: Tensor
    noise: Tensor
    values: ValueStore


@dataclass(frozen=True)
class _Run:
    """What is being sampled: for each row of the batch its picture, and the latent's width."""

    rows: tuple[int, ...]
    width: int


@dataclass(frozen=True, eq=False)
class Injection:
    """Pictures of one size, all inverted along one schedule; `patch` is the model's patch size in latent pixels."""

    pictures: tuple[InvertedPicture, ...]
    schedule: Schedule
    patch: int

    def patched(self, model: Any) -> Any:
        """A clone of the model that takes these pictures' diptychs, or the pictures alone."""
        clone = without_injection(model)
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, INVERSION_KEY, self.on_sample)
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, INVERSION_KEY, self.on_call)
        return clone

    def on_sample(
        self, executor: Any, noise: Tensor, latent: Tensor, sampler: Any, sigmas: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The OUTER_SAMPLE wrapper.

        Raises:
            InversionError: another latent, or a schedule that starts elsewhere.
        """
        rows = tuple(self._picture_of(latent[index : index + 1]) for index in range(len(latent)))
        self._check_sigmas(sigmas)
        noise = noise.clone()
        for index, picture in enumerate(rows):
            inverted = self.pictures[picture].noise
            noise[index : index + 1, ..., : inverted.shape[-1]] = inverted.to(noise)
        # The run's own copy of the options, which ends with it.
        executor.class_obj.model_options["transformer_options"][RUN] = _Run(rows, latent.shape[-1])
        with uncompiled() if self.pictures[0].values.plan.steps else nullcontext():
            return executor(noise, latent, sampler, sigmas, *args, **kwargs)

    def on_call(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: Options | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The APPLY_MODEL wrapper; calls outside of sampling pass unchanged."""
        options = transformer_options or {}
        if RUN in options:
            options = self._with_values(options, options[RUN], x, float(t[0]))
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    def _with_values(self, options: Options, run: _Run, x: Tensor, sigma: float) -> Options:
        step, _ = self.schedule.nearest(sigma)
        found = {picture: self.pictures[picture].values.at(step) for picture in set(run.rows)}
        # One copy for the whole step, queued before any block needs it where the device allows that.
        to_device = comfy.model_management.cast_to_device
        held = {picture: to_device(v, x.device, v.dtype) for picture, v in found.items() if v is not None}
        if not held:
            return options
        *_, height, width = self.pictures[0].source.shape
        check_whole(x, height, run.width)
        grid = TokenGrid(height // self.patch, x.shape[-1] // self.patch, width // self.patch)
        plan = self.pictures[0].values.plan
        # Conditionings that fit into memory together come one after the other in the batch.
        values = [held[run.rows[index % len(run.rows)]] for index in range(len(x))]
        return writing_options(options, Writing(grid, plan.positions, values))

    def _picture_of(self, latent: Tensor) -> int:
        height, width = self.pictures[0].source.shape[-2:]
        if latent.shape[-2] != height or latent.shape[-1] not in (width, 2 * width):
            raise InversionError(
                f"The latent is {latent.shape[-1] * 8} x {latent.shape[-2] * 8} pixels, but a diptych of "
                f"{2 * width * 8} x {height * 8} was inverted. {CONNECT}"
            )
        left = latent[..., :width].float().cpu()
        for index, picture in enumerate(self.pictures):
            if relative_error(left, picture.source) <= SAME_PICTURE:
                return index
        raise InversionError(f"The latent's left half is not the picture that was inverted. {CONNECT}")

    def _check_sigmas(self, sigmas: Tensor) -> None:
        start = float(sigmas[0])
        if not self.schedule.nearest(start) == (0, True):
            raise InversionError(
                f"The sampler starts at sigma {start:.4g}, but the picture was inverted up to "
                f"{self.schedule.start:.4g}. Give sampler and inversion the same steps, scheduler and denoise, and put "
                "nodes that change the model's sampling before the inversion."
            )
        if not all(self.schedule.nearest(sigma)[1] for sigma in sigmas[:-1].tolist()):
            log.warning(
                "The sampler's steps are not those of the inversion: each takes the attention values of the nearest "
                "step, and the left panel will be less like the source. Give both the same steps and scheduler."
            )


def without_injection(model: Any) -> Any:
    """A clone of the model without any inverted pictures."""
    clone = model.clone()
    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.APPLY_MODEL):
        clone.remove_wrappers_with_key(kind, INVERSION_KEY)
    return clone


def check_whole(x: Tensor, height: int, width: int) -> None:
    """Refuse parts of a picture: the model's tokens would not be those of the panel.

    Raises:
        InversionError: `x` is not `height` by `width`.
    """
    if x.shape[-2:] != (height, width):
        raise InversionError(
            f"The model was asked for a part of the picture, {x.shape[-1]} x {x.shape[-2]} of the latent. Inversion "
            "does not work with conditioning areas or context windows; remove them."
        )
