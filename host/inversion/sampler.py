"""A sampler object that goes from the picture up to noise, and records attention values on its way."""

from collections.abc import Callable
from typing import Any

import comfy.samplers
import comfyui_version
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...inversion.schedule import Schedule
from ...inversion.solver import Inverted, invert
from ...inversion.values import TokenGrid, ValueStore
from ..interrupts import poll
from .attention import INVERSION_KEY, Options, Reading, reading_options
from .model import InversionError, check_whole

AfterStep = Callable[[Tensor, Tensor], None]
"""Told of each step's prediction of the picture and its state, `1 c h w`."""


class Recorder:
    """Reads the values of every model call in a step that is kept; those of the step's last call stay."""

    def __init__(self, values: ValueStore, grid: TokenGrid, size: tuple[int, int], schedule: Schedule) -> None:
        self._values, self._grid, self._size, self._schedule = values, grid, size, schedule
        self._last: dict[Any, Tensor | None] = {}

    def patched(self, model: Any) -> Any:
        """A clone of the model that is recorded."""
        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, INVERSION_KEY, self.on_call)
        return clone

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
        """The APPLY_MODEL wrapper.

        Raises:
            InversionError: the model's blocks do not show their values.
        """
        check_whole(x, *self._size)
        # Before the call, which needs memory for the next ones.
        self._last = {}
        step, _ = self._schedule.nearest(float(t[0]))
        reading = Reading(self._grid, self._values.plan.positions, self._values.wants(step))
        options = reading_options(transformer_options or {}, reading)
        output = executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
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
        """Keep what the last call showed as the values of `step`."""
        if self._values.wants(step):
            kept = []
            for block in self._values.plan.blocks:
                values = self._last[block]
                assert values is not None
                kept.append(values)
            self._values.keep(step, kept)
            self._last = {}


class Upwards(comfy.samplers.Sampler):
    """Inverts the latent that it is given; the sigmas are the schedule's, and there is no noise to add."""

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
        """The host's call; the result is in `result` and `noise`, because the host scales what this answers."""
        x0 = latent_image

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
