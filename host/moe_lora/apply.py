"""Putting a MoE-LoRA on a model: ordinary layers as weight patches, routed layers for the time of each model call.

Routed layers depend on the activations, so they cannot be merged into weights. They live in a patcher of their own,
which the host counts, loads and offloads beside the model, and an APPLY_MODEL wrapper replaces the forward of their
Linears while the diffusion model runs. The forwards are put back when that call ends, also by an exception.
"""

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy.utils
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ...moe_lora.errors import AdapterError, ModelMismatchError
from ...moe_lora.routed import RoutedWeights
from ..compiled import inside_compiled
from ..forwards import Forward, Replacement, current_forward, replaced_forwards, set_forward
from ..routing import MOE_LORA_KEY, ModelCall, Observe, RoutingObserver, observer_of
from .experts import HeldAdapter, RoutedExperts
from .flux_model import inner_path, way_out
from .plain import host_patches


@dataclass(frozen=True)
class Strengths:
    """How an adapter is applied: `overall` scales everything, `experts` the routed part beside it, `top_k` experts
    are kept for each token.

    Raises:
        AdapterError: a value that is no number.
    """

    overall: float = 1.0
    experts: float = 1.0
    top_k: int = 1

    def __post_init__(self) -> None:
        for name, value in (("strength", self.overall), ("expert_strength", self.experts)):
            if not math.isfinite(value):
                raise AdapterError(f"{name} is {value}, expected a finite number. 1 is the trained strength, 0 is off.")

    @property
    def routed(self) -> float:
        return self.overall * self.experts


def apply_adapter(model: Any, held: HeldAdapter, strengths: Strengths) -> Any:
    """A clone of the model with the adapter on it. The model itself stays as it is, also when this fails.

    Raises:
        FileError: the ordinary part is incomplete.
        ModelMismatchError: the file was made for another model.
        AdapterError: top_k asks for more experts than there are.
    """
    adapter, inner = held.adapter, inner_path(model)
    _check_routed(model, adapter.routed, inner)
    _check_top_k(adapter.routed, strengths.top_k)
    patches = host_patches(model, adapter)
    patched = model.clone()
    if strengths.overall == 0:
        # The host would compute and round every weight again for a patch of strength 0.
        return patched
    left_out = set(patches) - set(patched.add_patches(patches, strengths.overall))
    if left_out:
        raise ModelMismatchError(f"ComfyUI would not patch {min(map(str, left_out))} of this model. {way_out(model)}")
    if adapter.routed and strengths.routed != 0:
        key = f"{MOE_LORA_KEY}_{sum(name.startswith(MOE_LORA_KEY) for name in patched.additional_models)}"
        patched.set_additional_models(key, [held.experts_for(patched)])
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, _Routing(key, strengths, inner))
    return patched


def routed_bytes(model: Any, patched: Any) -> int:
    """Memory of the routed layers that `apply_adapter` put beside `model` to make `patched`."""
    added = patched.additional_models.keys() - model.additional_models.keys()
    return sum(experts.model_size() for key in added for experts in patched.additional_models[key])


def _check_routed(model: Any, routed: Sequence[RoutedWeights], inner: str) -> None:
    kind = type(model.model).__name__
    for weights in routed:
        try:
            linear = comfy.utils.get_attr(model.model, f"diffusion_model.{inner}{weights.path}")
            found = (linear.in_features, linear.out_features)
        except (AttributeError, KeyError, IndexError) as error:
            raise ModelMismatchError(
                f"The file has experts for {weights.name}, but this model ({kind}) has no {weights.path}. "
                f"{way_out(model)}"
            ) from error
        if found != (weights.in_features, weights.out_features):
            raise ModelMismatchError(
                f"{weights.name} in the file takes {weights.in_features} and gives {weights.out_features} features, "
                f"but {weights.path} of this model ({kind}) takes {found[0]} and gives {found[1]}. {way_out(model)}"
            )


def _check_top_k(routed: Sequence[RoutedWeights], top_k: int) -> None:
    fewest = min((weights.experts for weights in routed), default=top_k)
    if not 1 <= top_k <= fewest:
        raise AdapterError(
            f"top_k is {top_k}, expected 1 to {fewest}, the number of experts in this file. "
            "The paper's was trained with 1."
        )


@dataclass(frozen=True)
class _Replacement(Replacement):
    """With what the function was made from: besides the Linear and its forward, the layer that it adds."""

    layer: nn.Module

    def made_from(self, linear: nn.Module, before: Forward | None, layer: nn.Module) -> bool:
        return self.module is linear and self.before is before and self.layer is layer


@dataclass(frozen=True, eq=False)
class _Routing:
    """The APPLY_MODEL wrapper of one adapter.

    torch.compile recompiles for every new function object, so they are kept: per diffusion model, for as long as it
    lives (clones on other GPUs have their own). `inner` is where FLUX.1 lies in the diffusion model.
    """

    key: str
    strengths: Strengths
    inner: str = ""
    kept: weakref.WeakKeyDictionary[nn.Module, dict[str, _Replacement]] = field(
        default_factory=weakref.WeakKeyDictionary
    )

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        patcher = executor.class_obj.current_patcher
        held = patcher.get_additional_models_with_key(self.key) if patcher is not None else ()
        if len(held) != 1:
            raise AdapterError(
                "The experts of the MoE-LoRA are no longer with this model: a node after MoELoRALoader removed them. "
                "Put MoELoRALoader directly before the sampler."
            )
        # Every TorchCompileModel makes a new module around it; the module inside stays the same.
        model = inside_compiled(executor.class_obj.diffusion_model)
        observer = observer_of(args)
        if observer is not None:
            observer.begin(ModelCall.of(*args))
        with replaced_forwards(self._replacements(model, held[0].model, observer).values()):
            return executor(*args, **kwargs)

    def _replacements(
        self, model: nn.Module, experts: RoutedExperts, observer: RoutingObserver | None
    ) -> Mapping[str, _Replacement]:
        # What an observer is in goes with it.
        kept = self.kept.setdefault(model, {}) if observer is None else observer.kept.setdefault((self.key, model), {})
        for path, layer in zip(experts.paths, experts.layers, strict=True):
            linear = comfy.utils.get_attr(model, f"{self.inner.removeprefix('_orig_mod.')}{path}")
            before = set_forward(linear)
            if path not in kept or not kept[path].made_from(linear, before, layer):
                top_k = self.strengths.top_k
                observe = None if observer is None else observer.watch(self.key, experts, path, top_k)
                forward = _with_experts(current_forward(linear), layer, self.strengths, observe)
                kept[path] = _Replacement(linear, before, forward, layer)
        return kept


def _with_experts(base: Forward, layer: nn.Module, strengths: Strengths, observe: Observe | None) -> Forward:
    strength, top_k = strengths.routed, strengths.top_k

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return layer(x, base(x, *args, **kwargs), strength, top_k, observe)

    return forward
