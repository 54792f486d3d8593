"""One sampling run with reused known tokens.

The run decides at each evaluation, before the host splits it into calls by conditioning, and the calls follow it.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...known_tokens.control import Control, Extent, ReuseSettings
from ...known_tokens.store import KnownStore
from ...known_tokens.tokens import TokenSplit
from .attention import KNOWN_TOKENS_KEY, KnownTokensCall, Options, recording_options, short_options


class KnownTokensRun:
    """Full and short evaluations of one sampling run over latents of `shape`, `b c h w`."""

    def __init__(self, settings: ReuseSettings, known: Tensor, shape: torch.Size, sigmas: Tensor) -> None:
        self._known, self._shape = known, shape
        self._control = Control(settings, sigmas[:-1].tolist())
        self._store = KnownStore()
        self._splits: dict[tuple[torch.device, int], TokenSplit] = {}

    def close(self) -> None:
        """Free what is kept."""
        self._store.clear()

    def on_evaluation(
        self, executor: Any, model: Any, conds: Any, x: Tensor, timestep: Tensor, model_options: Options
    ) -> Any:
        """The CALC_COND_BATCH wrapper."""
        if x.shape != self._shape:
            return executor(model, conds, x, timestep, model_options)
        sigma = float(timestep[0])
        evaluation = _Evaluation(self, self._control.extent(sigma))
        outputs = executor(model, conds, x, timestep, evaluation.options(model_options))
        if evaluation.recorded:
            self._control.refreshed(sigma)
        return outputs

    def split(self, device: torch.device, extra: int) -> TokenSplit:
        """The tokens of a call with so many tokens behind the picture's."""
        if (device, extra) not in self._splits:
            self._splits[device, extra] = TokenSplit.of(self._known.to(device), extra)
        return self._splits[device, extra]

    @property
    def store(self) -> KnownStore:
        return self._store


@dataclass
class _Evaluation:
    """One evaluation: the wrapper of its model calls, which several GPUs make in threads of their own."""

    run: KnownTokensRun
    extent: Extent
    recorded: bool = False

    def options(self, model_options: Options) -> Options:
        """Model options with our APPLY_MODEL wrapper inside all others, so that it sees what they add."""
        options = model_options["transformer_options"]
        wrappers = options.get("wrappers", {})
        applied = wrappers.get(WrappersMP.APPLY_MODEL, {})
        wrappers = {**wrappers, WrappersMP.APPLY_MODEL: {**applied, KNOWN_TOKENS_KEY: [self.on_call]}}
        return {**model_options, "transformer_options": {**options, "wrappers": wrappers}}

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
        """The APPLY_MODEL wrapper."""
        options = transformer_options or {}
        assert c_crossattn is not None
        flux = executor.class_obj.diffusion_model
        split = self.run.split(x.device, 0)
        conds: list[Hashable] = options["uuids"]
        last = len(flux.single_blocks) - 1
        kept = self.run.store.of(conds) if self.extent is Extent.SHORT else None
        if kept is not None:
            call = KnownTokensCall(split, c_crossattn.shape[1], kept)
            return executor(x, t, c_concat, c_crossattn, control, short_options(options, call, last), **kwargs)
        call = KnownTokensCall(split, c_crossattn.shape[1], self.run.store.to_fill(conds))
        output = executor(x, t, c_concat, c_crossattn, control, recording_options(options, call, last), **kwargs)
        if call.recorded:
            self.run.store.keep(conds, call.kept)
            self.recorded = True
        return output
