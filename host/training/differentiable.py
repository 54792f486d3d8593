"""Forwards for the host's modules through which gradients pass; their weights stay frozen and where they are.

The host's FLUX is made for inference. For the time of a step, the forwards of some of its modules are replaced:
- Linears keep nothing for the backward pass and cast their frozen weight again there: weights may be fp8, quantized,
  loaded under inference mode, or moved by the host between the two passes. Those with an adapter add it.
- Norms work on copies, because the blocks add to their inputs in place.
- Blocks are checkpointed on request: their inner values are computed again in the backward pass.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import comfy.ops
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...training.errors import TrainingError
from ..forwards import Forward, Replacement, current_forward, set_forward

QUANTIZED = getattr(comfy.ops, "QuantizedTensor", ())


def is_linear(module: nn.Module) -> bool:
    """Whether it is a Linear; the host's quantized ones are none of torch's."""
    return hasattr(module, "in_features") and hasattr(module, "out_features")


def frozen_linear(linear: nn.Module) -> Forward:
    """A Linear with its weight as it is: the gradient of its input alone."""
    forward = current_forward(linear)
    by_host, by_itself = _host_backward(linear), _any_backward(forward)
    is_hosts = type(linear).__module__ == comfy.ops.__name__

    def backward(gradient: Tensor, like: Tensor) -> Tensor:
        weight = linear.weight
        assert isinstance(weight, Tensor)
        # Other packs keep what is packed as bytes, and what is not as the host does.
        return (by_host if is_hosts or weight.is_floating_point() else by_itself)(gradient, like)

    def differentiable(x: Tensor) -> Tensor:
        return _FrozenLinear.apply(x, forward, backward) if x.requires_grad else forward(x)  # pyright: ignore

    return differentiable


class _FrozenLinear(torch.autograd.Function):
    """A Linear whose weight is not trained. Nothing is kept for the backward pass, where the weight is cast again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Forward, backward: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.like, ctx.gradient = x.new_empty(()).expand(x.shape), backward
        return forward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradient(gradients[0], ctx.like), None, None


def _host_backward(linear: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    def backward(gradient: Tensor, like: Tensor) -> Tensor:
        # In the dtype of the forward product, which autocast may have chosen.
        dtype = gradient.dtype
        weight, bias, stream = comfy.ops.cast_bias_weight(
            linear, dtype=dtype, device=like.device, bias_dtype=dtype, offloadable=True
        )
        # A quantized weight says that it has the dtype that it stands for, and then is not converted.
        plain = weight.dequantize() if isinstance(weight, QUANTIZED) else weight.as_subclass(Tensor)
        product = gradient @ plain
        comfy.ops.uncast_bias_weight(linear, weight, bias, stream)
        return product.to(like.dtype)

    return backward


def _any_backward(forward: Forward) -> Callable[[Tensor, Tensor], Tensor]:
    """For Linears of other packs (GGUF), whose way to their weight is their own: the gradient does not depend on x."""

    def backward(gradient: Tensor, like: Tensor) -> Tensor:
        with torch.enable_grad():
            x = torch.zeros_like(like, memory_format=torch.contiguous_format).requires_grad_()
            y = forward(x)
        if not y.requires_grad:
            raise TrainingError(
                "No gradient passes the quantized layers of this model. Load FLUX.1-Fill as bf16 or fp8 with Load "
                "Diffusion Model."
            )
        return torch.autograd.grad(y, x, gradient)[0]

    return backward


def differentiable_norm(norm: nn.LayerNorm | nn.RMSNorm) -> Forward:
    """A norm that keeps copies of what the host changes afterwards."""
    shape = list(norm.normalized_shape)

    def forward(x: Tensor) -> Tensor:
        weight, bias = _own_weights(norm, x)
        if isinstance(norm, nn.LayerNorm):
            return nn.functional.layer_norm(x.clone(), shape, weight, bias, norm.eps)
        return nn.functional.rms_norm(x, shape, weight, norm.eps)

    return forward


def _own_weights(norm: nn.Module, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Copies of the weights: the host may use the memory that it cast them to for others before the backward pass."""
    if norm.weight is None:
        return None, None
    weight, bias, stream = comfy.ops.cast_bias_weight(norm, x, offloadable=True)
    own = weight.clone(), None if bias is None else bias.clone()
    comfy.ops.uncast_bias_weight(norm, weight, bias, stream)
    return own


def checkpointed_block(block: nn.Module, repeated: Callable[[], AbstractContextManager[None]]) -> Replacement:
    """A block of FLUX that keeps its inputs only; the backward pass computes the rest again, within `repeated`."""
    forward = current_forward(block)

    def run(*args: Any, **kwargs: Any) -> Any:
        # The block adds to its inputs in place, and computing it again needs them as they were.
        positional = [_copied(value) for value in args]
        named = {name: _copied(value) if name in ("img", "txt") else value for name, value in kwargs.items()}
        return forward(*positional, **named)

    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        contexts = nullcontext(), repeated()
        # torch would compare the descriptions of all tensors, which takes a fifth of a step where kernels are short.
        how = {"use_reentrant": False, "preserve_rng_state": False, "determinism_check": "none"}
        return checkpoint(run, *args, context_fn=lambda: contexts, **how, **kwargs)

    return Replacement(block, set_forward(block), checkpointed)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
