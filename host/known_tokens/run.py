"""One sampling run with reused known tokens.

The run decides at each evaluation, before the host splits it into calls by conditioning, and the calls follow it.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ...known_tokens.control import Control, Extent, ReuseSettings
from ...known_tokens.report import ReuseTally
from ...known_tokens.store import KnownStore
from ...known_tokens.tokens import TokenSplit, known_tokens
from ..compiled import uncompiled
from .attention import Options
from .calls import EvaluationCalls
from .memory import enlarged, fits_on_device, store_bytes

COST_KEY = "icedit_model_cost"
"""In transformer options: a function that is told what each evaluation took, in plain evaluations."""


class KnownTokensRun:
    """Full and short evaluations of one sampling run over latents of `shape`, `b c h w`."""

    def __init__(
        self,
        settings: ReuseSettings,
        known: Tensor,
        patch: int,
        shape: torch.Size,
        sigmas: Tensor,
        references: int = 0,
    ) -> None:
        self._known, self.patch, self._shape, self._references = known, patch, shape, references
        self._control = Control(settings, sigmas[:-1].tolist())
        self.store = KnownStore()
        self.tally = ReuseTally()
        self._splits: dict[tuple[torch.device, int], TokenSplit] = {}
        self._rows = shape[0]
        self._placed = self._uncompiled = self._reopened = False

    def close(self) -> None:
        """Free what is kept."""
        self.store.clear()
        self._splits.clear()

    def on_prepare(self, executor: Any, model: Any, noise_shape: Any, conds: Any, *args: Any, **kwargs: Any) -> Any:
        """The PREPARE_SAMPLING wrapper: the host loads the model so that there is room for what is kept."""
        tokens = int(self._known.sum()) + self._references
        nbytes = store_bytes(model.model, noise_shape[0] * sum(map(len, conds.values())), tokens)
        return executor(model, enlarged(noise_shape, model.model, nbytes), conds, *args, **kwargs)

    def on_evaluation(
        self, executor: Any, model: Any, conds: Any, x: Tensor, timestep: Tensor, model_options: Options
    ) -> Any:
        """The CALC_COND_BATCH wrapper."""
        if x.shape != self._shape:
            # A part of the picture, as context windows make them.
            return executor(model, conds, x, timestep, model_options)
        sigma = float(timestep[0])
        self._rows = len(x) * sum(len(cond) for cond in conds if cond)
        calls = EvaluationCalls(self, Extent.FULL if self._reopened else self._control.extent(sigma))
        with uncompiled() if self._uncompiled else nullcontext():
            outputs = executor(model, conds, x, timestep, calls.options(model_options))
        if calls.recorded:
            self._control.refreshed(sigma)
        self._count(calls, model_options)
        return outputs

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
            self._reopened = bool((self._known.to(now.device) & ~now).any())
            return mask

        return observed

    # What the calls of an evaluation ask for.

    def split(self, x: Tensor, extra: int) -> TokenSplit | None:
        """The tokens of a call with so many tokens behind the picture's; None for a part of the picture."""
        if x.shape[1:] != self._shape[1:]:
            return None
        if (x.device, extra) not in self._splits:
            self._splits[x.device, extra] = TokenSplit.of(self._known.to(x.device), extra)
        return self._splits[x.device, extra]

    def make_room(self, model: Any, x: Tensor, split: TokenSplit) -> None:
        """Decide once where tokens are kept."""
        if self._placed:
            return
        self._placed = True
        nbytes = store_bytes(model, self._rows, len(split.known))
        self.store.in_ram = self.tally.in_ram = not fits_on_device(model, x, nbytes)

    def run_uncompiled(self) -> None:
        self._uncompiled = True
