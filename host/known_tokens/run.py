"""One sampling run with reused known tokens.

The run decides at each evaluation, before the host splits it into calls by conditioning, and the calls follow it.
"""

import math
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ...known_tokens.control import Control, Extent, ReuseSettings
from ...known_tokens.forecast import Forecast
from ...known_tokens.report import UNCOMPILED, ReuseTally
from ...known_tokens.store import Keeping, KnownStore
from ...known_tokens.tokens import TokenSplit, known_tokens, pixels
from ...known_tokens.unchanged import UnchangedTokens
from ..compiled import can_run_uncompiled, uncompiled
from ..model_cost import COST_KEY
from .attention import Options
from .calls import EvaluationCalls
from .memory import enlarged, fits_on_device, store_bytes


class KnownTokensRun:
    """Full and short evaluations of one sampling run, and those left out, over latents `b c h w` of `shape`.

    `masked`: the tokens that the noise mask keeps, `rows columns`. `references`: known ones behind the picture's.
    """

    def __init__(
        self, settings: ReuseSettings, masked: Tensor, patch: int, shape: torch.Size, sigmas: Tensor, references: int
    ) -> None:
        self._settings, self._masked, self.patch, self._shape = settings, masked, patch, shape
        self._references = references
        self._control = Control(settings, sigmas.tolist())
        self._forecast, self._whole = Forecast(), Forecast()
        self._unchanged: UnchangedTokens | None = None
        self.store, self.tally = KnownStore(), ReuseTally()
        self._rows = shape[0]
        self._uncompiled = self._reopened = False
        self._set_known(masked)

    def _set_known(self, known: Tensor) -> None:
        self._known = known
        self._splits: dict[tuple[torch.device, int], TokenSplit] = {}
        self._opened = pixels(~known, self.patch, self._shape[-2:])
        self._placed = False
        self.store.clear()

    def close(self) -> None:
        """Free what is kept."""
        self.store.clear()
        self._forecast.clear()
        self._whole.clear()
        self._unchanged = None

    def look_for_unchanged(self, source: Tensor) -> None:
        """Also leave out what turns out as in the source, a latent `b c h w` as the model sees it."""
        self._unchanged = UnchangedTokens(source, self._masked, self.patch)

    def on_prepare(self, executor: Any, model: Any, noise_shape: Any, conds: Any, *args: Any, **kwargs: Any) -> Any:
        """The PREPARE_SAMPLING wrapper: the host loads the model so that there is room for what is kept."""
        tokens = self._masked if self._unchanged is None else torch.ones_like(self._masked)
        count = int(tokens.sum()) + self._references if self._reuses else 0
        rows = noise_shape[0] * sum(map(len, conds.values()))
        nbytes = store_bytes(model.model, rows, count, self._settings.in_8_bits)
        return executor(model, enlarged(noise_shape, model.model, nbytes), conds, *args, **kwargs)

    def on_evaluation(
        self, executor: Any, model: Any, conds: Any, x: Tensor, timestep: Tensor, model_options: Options
    ) -> Any:
        """The CALC_COND_BATCH wrapper."""
        if x.shape != self._shape:
            # A part of the picture, as context windows make them.
            return executor(model, conds, x, timestep, model_options)
        sigma = float(timestep[0])
        active = _active(conds, sigma)
        whole = self._must_be_whole(active)
        expected = self._forecast.expected_error(sigma, active) if self._settings.skip_steps else math.inf
        extent = self._control.extent(sigma, math.inf if whole else expected)
        if extent is Extent.LEFT_OUT:
            self._count(EvaluationCalls(self, extent), model_options)
            return self._forecast.outputs(sigma)
        if whole:
            extent = Extent.FULL
        if extent is Extent.FULL and self._unchanged is not None and self._control.settling(sigma):
            self._refine(self._unchanged)
        self._rows = len(x) * len(active)
        calls = EvaluationCalls(self, extent)
        with uncompiled() if self._uncompiled else nullcontext():
            outputs = executor(model, conds, x, timestep, calls.options(model_options))
        if calls.recorded or (calls.answered_outside and extent is Extent.FULL):
            self._control.refreshed(sigma)
        if not calls.answered_outside:
            self._count(calls, model_options)
        outputs = self._as_found(outputs, sigma, active, extent)
        if self._settings.skip_steps:
            self._forecast.computed(sigma, outputs, active, self._opened.to(x.device))
        return outputs

    def _must_be_whole(self, active: Hashable) -> bool:
        """A mask was opened, or unchanged tokens of other conditionings are asked for."""
        return self._reopened or (self._unchanged is not None and not self._whole.knows(active))

    @property
    def _reuses(self) -> bool:
        return self._settings.refresh_every > 1

    def _refine(self, unchanged: "UnchangedTokens") -> None:
        known = unchanged.known()
        if not torch.equal(known, self._known):
            self._set_known(known)

    def _as_found(self, outputs: list[Tensor], sigma: float, active: Hashable, extent: Extent) -> list[Tensor]:
        """In a short evaluation unchanged tokens go on as evaluations in full had them."""
        unchanged = self._unchanged
        if unchanged is None:
            return outputs
        if extent is Extent.FULL:
            unchanged.see(outputs[0])
            self._whole.computed(sigma, outputs, active, self._opened.to(outputs[0].device))
            return outputs
        opened = self._opened.to(outputs[0].device)
        gone_on = self._whole.outputs(sigma, reach=1.0)
        return [torch.where(opened, output, on) for output, on in zip(outputs, gone_on, strict=True)]

    def _count(self, calls: EvaluationCalls, model_options: Options) -> None:
        work = self.tally.add(calls.shares, calls.foreign)
        self.tally.nbytes = max(self.tally.nbytes, self.store.nbytes)
        if told := model_options["transformer_options"].get(COST_KEY):
            told(work)

    def observing(self, mask_function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Nodes such as Differential Diffusion change the noise mask from step to step, and may open what it kept."""

        def observed(sigma: Tensor, denoise_mask: Tensor, extra_options: Options) -> Tensor:
            mask = mask_function(sigma, denoise_mask, extra_options=extra_options)
            now = known_tokens(mask, self.patch)
            self._reopened = bool((self._masked.to(now.device) & ~now).any())
            return mask

        return observed

    # What the calls of an evaluation ask for.

    def split(self, x: Tensor, extra: int) -> TokenSplit | None:
        """The tokens of a call with so many tokens behind the picture's; None for a part of the picture."""
        if not self._reuses or not (extra or self._known.any()) or x.shape[1:] != self._shape[1:]:
            return None
        if (x.device, extra) not in self._splits:
            self._splits[x.device, extra] = TokenSplit.of(self._known.to(x.device), extra)
        return self._splits[x.device, extra]

    def make_room(self, model: Any, x: Tensor, split: TokenSplit) -> None:
        """Decide once where tokens are kept."""
        if self._placed:
            return
        self._placed = True
        nbytes = store_bytes(model, self._rows, len(split.known), self._settings.in_8_bits)
        self.tally.in_ram = not fits_on_device(model, x, nbytes)
        self.store.keeping = Keeping(self.tally.in_ram, self._settings.in_8_bits)

    def runs_uncompiled(self) -> bool:
        already = self._uncompiled
        self.run_uncompiled()
        return already

    def run_uncompiled(self) -> None:
        """Compiled code takes no notice of what a call is told, and could not tell full calls from short ones."""
        if can_run_uncompiled() and not self._uncompiled:
            self._uncompiled = True
            self.tally.notes.append(UNCOMPILED)


def _active(conds: Any, sigma: float) -> tuple[Hashable, ...]:
    """The conditionings that count at this noise level."""
    found = [cond for group in conds for cond in group or ()]
    return tuple(
        cond.get("uuid")
        for cond in found
        if cond.get("timestep_start", math.inf) >= sigma >= cond.get("timestep_end", 0.0)
    )
