"""DoRA's magnitudes and the biases of the second matrices: PEFT can train both, and the host's loader drops them."""

from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_management
import torch
from comfy.weight_adapter.lora import LoRAAdapter
from torch import Tensor

from ...moe_lora.checkpoint import Adapter
from ...moe_lora.errors import ModelMismatchError
from ...moe_lora.layouts import ALPHA, BIAS, DOWN, MAGNITUDE


class PeftDoRA(LoRAAdapter):
    """DoRA as PEFT trains it: each output's row of weight and LoRA together, brought to the trained magnitude.

    The host's own `dora_scale` divides by the norm of the weight without the LoRA, which is another function.
    """

    def calculate_weight(
        self,
        weight: Tensor,
        key: str,  # noqa: ARG002 - the host passes it
        strength: float,
        strength_model: float,  # noqa: ARG002 - the host passes it
        offset: Any,  # noqa: ARG002 - the host passes it
        function: Callable[[Tensor], Tensor],
        intermediate_dtype: torch.dtype = torch.float32,
        original_weight: Any = None,  # noqa: ARG002 - the host passes it
    ) -> Tensor:
        up, down, alpha, _, magnitude, _ = self.weights
        up, down, magnitude = (
            comfy.model_management.cast_to_device(part, weight.device, intermediate_dtype)
            for part in (up, down, magnitude)
        )
        scale = 1.0 if alpha is None else alpha / down.shape[0]
        # The function puts the file's rows into the host's order. The only one that the host has for FLUX.1 exchanges
        # two halves, so it is its own inverse.
        base = function(weight.to(intermediate_dtype))
        merged = torch.addmm(base, up, down, alpha=scale)
        trained = merged * (magnitude.reshape(-1, 1) / torch.linalg.vector_norm(merged, dim=1, keepdim=True))
        weight += function(strength * (trained - base)).to(weight.dtype)
        return weight


def make_dora(patches: dict[Any, Any], key_map: Mapping[str, Any], adapter: Adapter) -> None:
    """Replace the patches of the layers with a magnitude by `PeftDoRA`."""
    for name, magnitude in adapter.plain.items():
        if name.endswith(MAGNITUDE):
            target = key_map[name.removesuffix(MAGNITUDE)]
            up, down, alpha, mid, _, reshape = patches[target].weights
            patches[target] = PeftDoRA(patches[target].loaded_keys, (up, down, alpha, mid, magnitude, reshape))


def add_biases(patches: dict[Any, Any], key_map: Mapping[str, Any], adapter: Adapter) -> None:
    """Add patches of the layers' biases for the biases of the second matrices.

    Raises:
        ModelMismatchError: two parts of the file change the same bias.
    """
    for name, bias in adapter.plain.items():
        if not name.endswith(BIAS):
            continue
        base = name.removesuffix(BIAS)
        target = _bias_of(key_map[base])
        if target in patches:
            raise ModelMismatchError(
                f"{adapter.keys[name]} and another key of the file change the same bias, expected one of them."
            )
        alpha = adapter.plain.get(base + ALPHA)
        scale = 1.0 if alpha is None else float(alpha) / adapter.plain[base + DOWN].shape[0]
        patches[target] = ("diff", (bias if scale == 1 else bias * scale,))


def _bias_of(target: Any) -> Any:
    key, rest = (target, ()) if isinstance(target, str) else (target[0], target[1:])
    key = f"{key.removesuffix('.weight')}.bias"
    return (key, *rest) if rest else key
