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

BankKey = tuple[torch.dtype, torch.device, torch.device]


class _Down(comfy.ops.manual_cast.Linear):
    """`layer.Down` with a weight that the host moves and casts per call."""

    float32_product = False

    def forward_comfy_cast_weights(self, x: Tensor, experts: int) -> tuple[Tensor, Tensor]:
        weight, bias, stream = comfy.ops.cast_bias_weight(self, x, offloadable=True)
        projected = project(x, weight, experts, self.float32_product)
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return projected


class _Float32Down(_Down):
    """For devices whose products of half-precision tensors can stay in float32."""

    float32_product = True


class _Up(comfy.ops.manual_cast.Linear):
    """`layer.Up` with a weight that the host moves and casts per call."""

    def forward_comfy_cast_weights(self, hidden: Tensor, base: Tensor) -> Tensor:
        weight, bias, stream = comfy.ops.cast_bias_weight(self, hidden, offloadable=True)
        added = add_product(base, hidden, weight)
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return added


class RoutedBank(nn.Module):
    """The routed layers of one adapter, with the paths of their Linears in the diffusion model."""

    def __init__(self, routed: Sequence[RoutedWeights], dtype: torch.dtype, float32_product: bool) -> None:
        super().__init__()
        self.float32_product = float32_product
        self.paths = tuple(weights.path for weights in routed)
        self.layers = nn.ModuleList(_routed_layer(weights, dtype, float32_product) for weights in routed)
        self.requires_grad_(False)
        state = {}
        for index, weights in enumerate(routed):
            down, up = weights.stacked(dtype)
            state |= {f"layers.{index}.down.weight": down, f"layers.{index}.up.weight": up}
        self.load_state_dict(state, strict=True, assign=True)
        comfy.model_management.archive_model_dtypes(self)


def _routed_layer(weights: RoutedWeights, dtype: torch.dtype, float32_product: bool) -> RoutedLoRA:
    down = _Float32Down if float32_product else _Down
    sizes = (weights.in_features, weights.out_features, weights.experts, weights.rank)
    return RoutedLoRA(*sizes, weights.scale, down=down, up=_Up, dtype=dtype, device="meta")


@dataclass(frozen=True, eq=False)
class HeldAdapter:
    """A file that was read, and its routed layers as patchers: one for each dtype and device they were needed in."""

    adapter: Adapter
    banks: dict[BankKey, Any] = field(default_factory=dict)

    def bank_for(self, model: Any) -> Any:
        """A patcher with the routed layers, in the model's compute dtype and on its devices."""
        key = (_compute_dtype(model, self.adapter), model.load_device, model.offload_device)
        held = self.banks.get(key)
        # A device may have had no memory left when it was asked.
        if held is None or (not held.model.float32_product and has_float32_product(model.load_device)):
            self.banks[key] = _bank_patcher(self.adapter, *key)
        return self.banks[key].clone()


def _bank_patcher(
    adapter: Adapter,
    dtype: torch.dtype,
    load_device: torch.device,
    offload_device: torch.device,
    disable_dynamic: bool = False,
) -> Any:
    patcher = comfy.model_patcher.ModelPatcher
    if not disable_dynamic:
        patcher = getattr(comfy.model_patcher, "CoreModelPatcher", patcher)
    bank = patcher(RoutedBank(adapter.routed, dtype, has_float32_product(load_device)), load_device, offload_device)
    # A clone for another GPU, or without dynamic memory, makes its own weights with this.
    bank.cached_patcher_init = (_bank_patcher, (adapter, dtype, load_device, offload_device))
    return bank


def _compute_dtype(model: Any, adapter: Adapter) -> torch.dtype:
    """What the activations will be: weights kept in it need no cast at every step, and no more memory than that."""
    dtype = model.get_model_object("manual_cast_dtype") or model.model_dtype()
    return dtype if dtype in DTYPES else adapter.routed[0].down[0].dtype
