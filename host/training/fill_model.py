"""The model that is trained on: whether it can be, and its velocity with gradients for an adapter."""

from collections.abc import Iterator
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

from ...training.adapter import TrainedAdapter
from ...training.errors import TrainingError
from ...training.settings import TrainingSettings
from ...training.targets import paper_targets
from ..forwards import Forward, Replacement, replaced_forwards, set_forward
from .differentiable import checkpointed_block, differentiable_norm, frozen_linear, is_linear

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
        name: (module.in_features, module.out_features) for name, module in network.named_modules() if is_linear(module)
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
            blocks = (*network.double_blocks, *network.single_blocks)
            self._trained += [checkpointed_block(block, adapter.repeated) for block in blocks]

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
        yield Replacement(linear, set_forward(linear), _with_layer(frozen_linear(linear), layer))


def _with_layer(base: Forward, layer: nn.Module) -> Forward:
    return lambda x: layer(x, base(x))


def _differentiable(network: nn.Module, adapted: set[nn.Module]) -> Iterator[Replacement]:
    for module in network.modules():
        if is_linear(module) and module not in adapted:
            yield Replacement(module, set_forward(module), frozen_linear(module))
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
            yield Replacement(module, set_forward(module), differentiable_norm(module))
