"""A model that starts every diptych's left panel from its source's inverted noise and puts the kept values in.

Any sampler works with it unchanged: a clone of the model carries a wrapper around sampling, which replaces the left
half of the noise and gives that run's model calls a wrapper that replaces attention values.
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
from ..compiled import uncompiled
from .attention import (
    INVERSION_KEY,
    Options,
    RestOfCall,
    Writing,
    apply_model_wrapper,
    wrap_calls,
    writing_options,
)  # fmt: skip

log = logging.getLogger(__name__)

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


@dataclass(frozen=True, eq=False)
class InversionReplay:
    """Pictures of one size, all inverted along one schedule; `patch` is the model's patch size in latent pixels."""

    pictures: tuple[InvertedPicture, ...]
    schedule: Schedule
    patch: int

    def patched(self, model: Any) -> Any:
        """A clone of the model that takes these pictures' diptychs, or the pictures alone."""
        clone = without_replay(model)
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, INVERSION_KEY, self.on_sample)
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
        for row, picture in enumerate(rows):
            noise[row : row + 1, ..., : picture.noise.shape[-1]] = picture.noise.to(noise)
        run = _Run(rows, self.schedule, self.patch, latent.shape[-1])
        wrap_calls(executor.class_obj.model_options, run.on_call)
        with uncompiled() if self.pictures[0].values.plan.steps else nullcontext():
            return executor(noise, latent, sampler, sigmas, *args, **kwargs)

    def _picture_of(self, latent: Tensor) -> InvertedPicture:
        height, width = self.pictures[0].source.shape[-2:]
        if latent.shape[-2] != height or latent.shape[-1] not in (width, 2 * width):
            raise InversionError(
                f"The latent is {latent.shape[-1] * 8} x {latent.shape[-2] * 8} pixels, but a diptych of "
                f"{2 * width * 8} x {height * 8} was inverted. {CONNECT}"
            )
        left = latent[..., :width].float().cpu()
        for picture in self.pictures:
            if relative_error(left, picture.source) <= SAME_PICTURE:
                return picture
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


@dataclass(frozen=True, eq=False)
class _Run:
    """One sampling run: the picture of each row of the batch, and the width of the latent."""

    rows: tuple[InvertedPicture, ...]
    schedule: Schedule
    patch: int
    width: int

    @apply_model_wrapper
    def on_call(self, call: RestOfCall, x: Tensor, sigma: float, options: Options) -> Tensor:
        """The APPLY_MODEL wrapper."""
        step, _ = self.schedule.nearest(sigma)
        kept = {picture: values for picture in self.rows if (values := picture.values.at(step)) is not None}
        if not kept:
            return call(options)
        # One copy for the whole step, queued before any block needs it where the device allows that.
        to_device = comfy.model_management.cast_to_device
        kept = {picture: to_device(values, x.device, values.dtype) for picture, values in kept.items()}
        *_, height, width = self.rows[0].source.shape
        check_whole(x, height, self.width)
        grid = TokenGrid(height // self.patch, x.shape[-1] // self.patch, width // self.patch)
        # Conditionings that fit into memory together come one after the other in the batch.
        rows = [kept[self.rows[index % len(self.rows)]] for index in range(len(x))]
        return call(writing_options(options, Writing(grid, self.rows[0].values.plan.positions, rows)))


def without_replay(model: Any) -> Any:
    """A clone of the model without any inverted pictures."""
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, INVERSION_KEY)
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
