"""A sampler that goes from the picture to noise instead of back, and the recording of attention values on its way."""

from collections.abc import Callable
from typing import Any

import comfy.samplers
import comfyui_version
from torch import Tensor

from ...inversion.schedule import Schedule
from ...inversion.solver import Inverted, invert
from ...inversion.values import TokenGrid, ValueStore
from ..interrupts import poll
from .attention import Options, Reading, RestOfCall, apply_model_wrapper, reading_options, wrap_calls
from .model import InversionError, check_whole

AfterStep = Callable[[Tensor, Tensor], None]
"""Called after each step with its prediction of the picture and its state, `1 c h w`."""


class Recorder:
    """Records the attention values of the steps whose values are kept: of each step those of its last model call."""

    def __init__(self, values: ValueStore, grid: TokenGrid, size: tuple[int, int], schedule: Schedule) -> None:
        self._values, self._grid, self._size, self._schedule = values, grid, size, schedule
        self._last: dict[Any, Tensor | None] = {}

    @apply_model_wrapper
    def on_call(self, call: RestOfCall, x: Tensor, sigma: float, options: Options) -> Tensor:
        """The APPLY_MODEL wrapper.

        Raises:
            InversionError: the model's blocks do not show their values.
        """
        check_whole(x, *self._size)
        # Freed before the call, which needs the memory for its own.
        self._last = {}
        step, _ = self._schedule.nearest(sigma)
        reading = Reading(self._grid, self._values.plan.positions, self._values.wants(step))
        output = call(reading_options(options, reading))
        missing = [f"{kind} {index}" for kind, index in self._values.plan.blocks if (kind, index) not in reading.found]
        if missing:
            raise InversionError(
                f"The attention values of block {missing[0]} cannot be read: FLUX of ComfyUI "
                f"{comfyui_version.__version__} does not hand them to patches (attn1_patch), or a node before this one "
                "replaced its blocks. Get a newer ComfyUI, or work without kept values: step_share 0."
            )
        self._last = reading.found
        return output

    def keep(self, step: int) -> None:
        """Keep the values of the last call as those of `step`."""
        if self._values.wants(step):
            kept = []
            for block in self._values.plan.blocks:
                values = self._last[block]
                assert values is not None
                kept.append(values)
            self._values.keep(step, kept)
            self._last = {}


class InversionSampler(comfy.samplers.Sampler):
    """Inverts the latent that it is given along its schedule; no noise is added."""

    def __init__(self, schedule: Schedule, corrections: int, recorder: Recorder, after_step: AfterStep) -> None:
        self._schedule, self._corrections = schedule, corrections
        self._recorder, self._after_step = recorder, after_step
        self.result: Inverted | None = None
        self.noise: Tensor | None = None
        """What a sampler starts from, `1 c h w`."""

    def sample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        model_wrap: Any,
        sigmas: Tensor,  # noqa: ARG002
        extra_args: dict[str, Any],
        callback: Any,  # noqa: ARG002
        noise: Tensor,  # noqa: ARG002
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,  # noqa: ARG002
        disable_pbar: bool = False,  # noqa: ARG002
    ) -> Tensor:
        """Called by the host. What counts is in `result` and `noise`, because the host scales what this returns."""
        x0 = latent_image
        wrap_calls(extra_args["model_options"], self._recorder.on_call)

        def velocity(x: Tensor, sigma: float) -> Tensor:
            nonlocal x0
            poll()
            x0 = model_wrap(x, x.new_full((len(x),), sigma), **extra_args)
            return (x - x0) / sigma

        def after_step(step: int, state: Tensor) -> None:
            self._recorder.keep(step)
            self._after_step(x0, state)

        self.result = invert(velocity, latent_image, self._schedule, self._corrections, after_step)
        self.noise = self._schedule.as_noise(self.result.state, latent_image)
        return self.result.state
