"""The routed layers of an adapter as a model of their own, which the host counts, loads and offloads like any other."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from torch import Tensor, nn

from ...moe_lora.checkpoint import Adapter
from ...moe_lora.layer import RoutedLoRA, add_product, has_float32_product, project
from ...moe_lora.routed import DTYPES, RoutedWeights

Placement = tuple[torch.dtype, torch.device, torch.device]
"""The experts' dtype, load device and offload device."""


class _Down(comfy.ops.manual_cast.Linear):
    """`layer.project` with a weight that the host moves and casts per call."""

    float32_product = False

    def forward_comfy_cast_weights(self, x: Tensor, experts: int, top_k: int | None = None) -> tuple[Tensor, Tensor]:
        weight, bias, stream = comfy.ops.cast_bias_weight(self, x, offloadable=True)
        projected = project(x, weight, experts, self.float32_product, top_k)
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return projected


class _Up(comfy.ops.manual_cast.Linear):
    """`layer.add_product` with a weight that the host moves and casts per call."""

    def forward_comfy_cast_weights(self, hidden: Tensor, base: Tensor) -> Tensor:
        weight, bias, stream = comfy.ops.cast_bias_weight(self, hidden, offloadable=True)
        added = add_product(base, hidden, weight)
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return added


class RoutedExperts(nn.Module):
    """The routed layers of one adapter, the paths of their Linears in the diffusion model, and the weights as read."""

    def __init__(self, routed: Sequence[RoutedWeights], dtype: torch.dtype, float32_product: bool) -> None:
        super().__init__()
        self.float32_product = float32_product
        self.paths = tuple(weights.path for weights in routed)
        self.weights = tuple(routed)
        self.layers = nn.ModuleList(_routed_layer(weights, dtype, float32_product) for weights in routed)
        comfy.model_management.archive_model_dtypes(self)


def _routed_layer(weights: RoutedWeights, dtype: torch.dtype, float32_product: bool) -> RoutedLoRA:
    down, up = (_linear(kind, weight) for kind, weight in zip((_Down, _Up), weights.stacked(dtype), strict=True))
    down.float32_product = float32_product
    return RoutedLoRA(down, up, weights.experts, weights.rank, weights.scale)


def _linear(kind: type[nn.Module], weight: Tensor) -> Any:
    outputs, inputs = weight.shape
    linear = kind(inputs, outputs, bias=False, dtype=weight.dtype, device="meta")
    linear.requires_grad_(False)
    linear.load_state_dict({"weight": weight}, strict=True, assign=True)
    return linear


@dataclass(frozen=True, eq=False)
class HeldAdapter:
    """A file that was read, and its experts as patchers: one for each dtype and device they were needed in."""

    adapter: Adapter
    experts: dict[Placement, Any] = field(default_factory=dict)

    def experts_for(self, model: Any) -> Any:
        """A patcher with the experts, in the model's compute dtype and on its devices."""
        placement = (_compute_dtype(model, self.adapter), model.load_device, model.offload_device)
        held = self.experts.get(placement)
        # A device may have had no memory left when the product was tried.
        if held is None or (not held.model.float32_product and has_float32_product(model.load_device)):
            self.experts[placement] = _patcher(self.adapter, *placement)
        return self.experts[placement].clone()


def _patcher(
    adapter: Adapter,
    dtype: torch.dtype,
    load_device: torch.device,
    offload_device: torch.device,
    disable_dynamic: bool = False,
) -> Any:
    kind = comfy.model_patcher.ModelPatcher
    if not disable_dynamic:
        kind = getattr(comfy.model_patcher, "CoreModelPatcher", kind)
    experts = RoutedExperts(adapter.routed, dtype, has_float32_product(load_device))
    patcher = kind(experts, load_device, offload_device)
    # A clone for another GPU, or without dynamic memory, makes its own weights with this.
    patcher.cached_patcher_init = (_patcher, (adapter, dtype, load_device, offload_device))
    return patcher


def _compute_dtype(model: Any, adapter: Adapter) -> torch.dtype:
    """What the activations will be: weights kept in it need no cast at every step, and no more memory than that."""
    dtype = model.get_model_object("manual_cast_dtype") or model.model_dtype()
    return dtype if dtype in DTYPES else adapter.routed[0].down[0].dtype
