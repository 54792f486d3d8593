"""The model calls of one evaluation: one for each batch of conditionings, on several GPUs in threads of their own."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...known_tokens.control import Extent
from ...known_tokens.store import KnownStore
from ...known_tokens.tokens import TokenSplit
from ..compiled import is_compiled
from ..model_cost import EXTENT_KEY
from .attention import KNOWN_TOKENS_KEY, KnownTokensCall, Options, recording_options, short_options
from .foreign import CallInputs, foreign_patch


class CallPlan(Protocol):
    """What calls need to know of their sampling run."""

    store: KnownStore
    patch: int

    def split(self, x: Tensor, extra: int) -> TokenSplit | None:
        """The tokens of a call with so many tokens behind the picture's; None for a part of the picture."""
        ...

    def make_room(self, model: Any, x: Tensor, split: TokenSplit) -> None:
        """Called before anything is kept."""
        ...

    def runs_uncompiled(self) -> bool:
        """Asked when the model turns out to be compiled. From the next evaluation on it does, where torch can."""
        ...


@dataclass
class EvaluationCalls:
    """Wraps the calls of one evaluation inside all other wrappers, so that it sees what these add.

    Attributes:
        shares: for each call the share of its tokens that was computed; 0 where something inside left it out.
        recorded: a call kept something.
        foreign: the kind of another node's patch that made calls run as without us.
    """

    plan: CallPlan
    extent: Extent
    shares: list[float] = field(default_factory=list)
    recorded: bool = False
    foreign: str | None = None

    @property
    def answered_outside(self) -> bool:
        """The model was not called: whoever samples gave an answer that it had recorded."""
        return not self.shares

    def options(self, model_options: Options) -> Options:
        """Model options with our APPLY_MODEL wrapper as the last one."""
        options = model_options["transformer_options"]
        wrappers = options.get("wrappers", {})
        applied = wrappers.get(WrappersMP.APPLY_MODEL, {})
        wrappers = {**wrappers, WrappersMP.APPLY_MODEL: {**applied, KNOWN_TOKENS_KEY: [self.on_call]}}
        return {
            **model_options,
            "transformer_options": {**options, "wrappers": wrappers, EXTENT_KEY: self.extent.value},
        }

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
        options, inputs = transformer_options or {}, CallInputs(control, kwargs)
        prepared = self._prepared(executor.class_obj, x, c_crossattn, options, inputs)
        if prepared is None:
            self.shares.append(1.0)
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
        call, conds, options, inputs = prepared
        output = executor(x, t, c_concat, c_crossattn, inputs.control, options, **inputs.extra)
        self._count(call, conds)
        return output

    def _prepared(
        self, model: Any, x: Tensor, text: Tensor | None, options: Options, inputs: CallInputs
    ) -> tuple[KnownTokensCall, list[Hashable], Options, CallInputs] | None:
        """The call as a short one, or as one that records; None for one that must run as without us."""
        extra = inputs.reference_tokens(self.plan.patch)
        split, conds, network = self.plan.split(x, extra), _conds(options), model.diffusion_model
        self.foreign = self.foreign or foreign_patch(options)
        if split is None or not conds or text is None or foreign_patch(options):
            return None
        if is_compiled(network) and not self.plan.runs_uncompiled():
            return None
        picture, last, words = split.total - extra, len(network.single_blocks) - 1, text.shape[1]
        blocks = len(network.double_blocks) + len(network.single_blocks)
        if not inputs.fits(picture, split.total, words):
            return None
        kept = self.plan.store.of(conds, len(split.known)) if self.extent is Extent.SHORT else None
        if kept is not None:
            call = KnownTokensCall(split, words, blocks, kept)
            options, inputs = short_options(options, call, last), inputs.shortened(split, picture, words, last)
        else:
            self.plan.make_room(model, x, split)
            call = KnownTokensCall(split, words, blocks, self.plan.store.to_fill(conds), records=True)
            options = recording_options(options, call, last)
        return call, conds, options, inputs

    def _count(self, call: KnownTokensCall, conds: list[Hashable]) -> None:
        if not call.seen:
            # A step cache inside left the call out.
            self.shares.append(0.0)
            return
        self.shares.append(1.0 if call.records else call.share)
        if not call.records:
            return
        if len(call.seen) == call.blocks:
            self.plan.store.keep(conds, call.kept)
            self.recorded = True
        else:
            self.plan.store.drop(conds)
            self.foreign = self.foreign or "blocks of the model"


def _conds(options: Options) -> list[Hashable]:
    """Each conditioning by its number at the host, and whether it is the positive one: the host copies some."""
    return list(zip(options.get("uuids", ()), options.get("cond_or_uncond", ()), strict=False))
