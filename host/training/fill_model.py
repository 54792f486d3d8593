"""The model that is trained on: whether it can be, and its velocity with gradients for an adapter.

The host's FLUX is made for inference. For the time of a step, the forwards of some of its modules are replaced:
- Linears keep nothing for the backward pass and cast their frozen weight again there: weights may be fp8, quantized,
  loaded under inference mode, or moved by the host between the two passes. Those with an adapter add it.
- Norms work on copies, because the blocks add to their inputs in place.
- Blocks are checkpointed on request: their inner values are computed again in the backward pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ldm.flux.model
import comfy.ldm.modules.attention
import comfy.model_base
import comfy.model_management
import comfy.ops
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...training.adapter import TrainedAdapter
from ...training.errors import TrainingError
from ...training.settings import TrainingSettings
from ...training.targets import paper_targets
from ..forwards import Forward, Replacement, current_forward, replaced_forwards, set_forward

FILL_FEATURES = 384
"""Of a token of FLUX.1-Fill: 2 x 2 of the noisy latent, the picture around the mask, and the mask."""
LOAD_FILL = "Load FLUX.1-Fill (flux1-fill-dev.safetensors) with Load Diffusion Model."


def check_trainable(model: Any) -> None:
    """Check that gradients for an adapter can pass the model.

    Raises:
        TrainingError: they cannot, or the model computes something else while sampling than it would here.
    """
    network = model.model.diffusion_model
    if not isinstance(network, comfy.ldm.flux.model.Flux):
        raise TrainingError(
            f"model is a {type(model.model).__name__} whose layers are a {type(network).__name__}, expected ComfyUI's "
            f"own FLUX: no gradients pass the layers of Nunchaku, TensorRT or a compiled model. {LOAD_FILL}"
        )
    if network.img_in.in_features != FILL_FEATURES:
        raise TrainingError(
            f"model takes {network.img_in.in_features} features a token, expected FLUX.1-Fill's {FILL_FEATURES}: only "
            f"Fill sees the picture beside the one it paints. {LOAD_FILL}"
        )
    wrapped = [
        str(key)
        for kind in (WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL)
        for key, functions in model.wrappers.get(kind, {}).items()
        if functions
    ]
    wrapped += ["model_function_wrapper"] if "model_function_wrapper" in model.model_options else []
    wrapped += sorted(model.model_options.get("transformer_options", {}).get("patches", {}))
    if wrapped:
        raise TrainingError(
            f"Another node has changed how model computes ({', '.join(wrapped)}), which training would not see. "
            "Connect the model without it: a MoE-LoRA to go on from belongs into start_from, a step cache only before "
            "a sampler."
        )
    if model.model.get_dtype_inference() == torch.float16:
        raise TrainingError(
            "model computes in float16, in which gradients vanish, expected bfloat16 or float32. Start ComfyUI with "
            "--bf16-unet or --fp32-unet."
        )


def new_adapter(model: Any, settings: TrainingSettings) -> TrainedAdapter:
    """An adapter for this model as the paper chose its layers; it changes nothing yet."""
    network = model.model.diffusion_model
    sizes = {
        name: (module.in_features, module.out_features)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
    }
    depths = len(network.double_blocks), len(network.single_blocks)
    return TrainedAdapter(paper_targets(sizes, *depths, settings.routed), settings)


class FillVelocity:
    """The velocity that FLUX.1-Fill predicts, with an adapter on it."""

    def __init__(self, model: Any, adapter: TrainedAdapter, checkpointing: bool) -> None:
        self._base, network = model.model, model.model.diffusion_model
        # Older hosts leave it on for some layers, which would then gather gradients of their own.
        network.requires_grad_(False)
        self._adapted = list(_adapted(network, adapter))
        self._trained = [*self._adapted, *_differentiable(network, {item.module for item in self._adapted})]
        if checkpointing:
            self._trained += [_checkpointed(block) for block in (*network.double_blocks, *network.single_blocks)]

    @contextmanager
    def training(self) -> Iterator[None]:
        """For a step, forward and backward: what is computed within can be differentiated."""
        management, before = comfy.model_management, comfy.model_management.in_training
        with replaced_forwards(self._trained), torch.inference_mode(False), torch.enable_grad():
            management.in_training = True
            try:
                yield
            finally:
                management.in_training = before

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """For the host's samplers: the model computes with the adapter as it is."""
        with replaced_forwards(self._adapted), torch.inference_mode():
            yield

    def __call__(
        self, noisy: Tensor, times: Tensor, shown: Tensor, text: Tensor, pooled: Tensor, guidance: float
    ) -> Tensor:
        """Velocity `b 16 h w` float32 of latents `noisy` at `times` `b`, computed as the host computes it.

        Args:
            shown: what Fill is shown beside the noisy latents, `b 80 h w`.
            text: `b tokens d`.
            pooled: `b d`.
        """
        dtype = self._base.get_dtype_inference()
        x = torch.cat([noisy, shown.to(noisy)], 1).to(dtype)
        t = self._base.model_sampling.timestep(times).float()
        options = {"optimized_attention_override": _differentiable_attention}
        strength = torch.full((len(x),), guidance, device=x.device, dtype=dtype)
        fast = torch.is_grad_enabled() and _gains_by_bfloat16(x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=fast):
            velocity = self._base.diffusion_model(
                x, t, context=text.to(x), y=pooled.to(x), guidance=strength, transformer_options=options
            )
        return velocity.float()


def _gains_by_bfloat16(x: Tensor) -> bool:
    """Whether this is a CPU that multiplies bfloat16, on which the host would compute in float32."""
    is_able: bool = x.device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return is_able and x.dtype == torch.float32


def _differentiable_attention(_: Any, *args: Any, **kwargs: Any) -> Tensor:
    """torch's own attention: those of other packages (Sage) have no backward pass."""
    kwargs.pop("transformer_options", None)
    return comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)


def _adapted(network: nn.Module, adapter: TrainedAdapter) -> Iterator[Replacement]:
    for target, layer in zip(adapter.targets, adapter.layers, strict=True):
        linear = network.get_submodule(target.path)
        yield Replacement(linear, set_forward(linear), _with_layer(_frozen(linear), layer))


def _with_layer(base: Forward, layer: nn.Module) -> Forward:
    return lambda x: layer(x, base(x))


def _differentiable(network: nn.Module, adapted: set[nn.Module]) -> Iterator[Replacement]:
    for module in network.modules():
        if isinstance(module, nn.Linear) and module not in adapted:
            yield Replacement(module, set_forward(module), _frozen(module))
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
            yield Replacement(module, set_forward(module), _norm(module))


def _frozen(linear: nn.Module) -> Forward:
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
        product = gradient @ weight.as_subclass(Tensor)
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


def _norm(norm: nn.LayerNorm | nn.RMSNorm) -> Forward:
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


def _checkpointed(block: nn.Module) -> Replacement:
    forward = current_forward(block)

    def run(*args: Any, **kwargs: Any) -> Any:
        # The block adds to its inputs in place, and computing it again needs them as they were.
        positional = [_copied(value) for value in args]
        named = {name: _copied(value) if name in ("img", "txt") else value for name, value in kwargs.items()}
        return forward(*positional, **named)

    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return Replacement(block, set_forward(block), checkpointed)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
