"""A FLUX.1-Fill, its adapters and its autoencoder with random weights, and an edit for them to sample."""

from collections.abc import Mapping
from typing import Any

from .setting import Setting

WEIGHT_SCALE = 0.5
"""Of the weights beside 1 / sqrt(inputs): with 57 blocks of it every activation stays finite in bfloat16."""


def random_weights(shapes: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """Weights of such names and shapes, drawn on the device and kept in memory, as those of a file would be."""
    import torch

    draw = torch.Generator(setting.device).manual_seed(0)

    def one(name: str, shape: Any) -> Any:
        if len(shape) < 2:
            return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
        drawn = torch.randn(shape, generator=draw, dtype=setting.dtype, device=setting.device)
        return drawn.mul_(WEIGHT_SCALE * shape[1:].numel() ** -0.5).cpu()

    return {name: one(name, meta.shape).to(setting.dtype) for name, meta in shapes.items()}


def flux_fill(setting: Setting, options: Mapping[str, Any] | None = None) -> Any:
    """The MODEL that UNETLoader would make of a file; `options` are what it hands to ComfyUI for its weight_dtype."""
    setting.start()
    import comfy.sd
    import torch

    weights = random_weights(flux_shapes(setting), setting)
    with torch.inference_mode():
        return comfy.sd.load_diffusion_model_state_dict(weights, dict(options or {"dtype": setting.dtype}))


def flux_shapes(setting: Setting) -> dict[str, Any]:
    from support import tiny_stack

    return _without_memory(lambda: tiny_stack.flux(setting.size.shape))


def _without_memory(make: Any) -> Any:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), torch.no_grad():
        return make()


def with_moe_lora(setting: Setting, model: Any) -> Any:
    """The model with a MoE-LoRA of the published shape, as MoELoRALoader puts it on."""
    import torch
    from icedit.host.moe_lora.apply import Strengths, apply_adapter
    from icedit.host.moe_lora.experts import HeldAdapter
    from icedit.moe_lora.checkpoint import parse_adapter
    from support import tiny_stack

    shapes = _without_memory(lambda: tiny_stack.moe_lora(setting.size.shape, setting.size.rank))
    with torch.inference_mode():
        return apply_adapter(model, HeldAdapter(parse_adapter(random_weights(shapes, setting))), Strengths())


def with_lora(setting: Setting, model: Any) -> Any:
    """The model with the ordinary LoRA, by ComfyUI's own loader."""
    import comfy.sd
    import torch
    from support import tiny_stack

    shapes = _without_memory(lambda: tiny_stack.lora(setting.size.shape, setting.size.rank))
    with torch.inference_mode():
        return comfy.sd.load_lora_for_models(model, None, random_weights(shapes, setting), 1.0, 0.0)[0]


def autoencoder(setting: Setting) -> Any:
    """A VAE of FLUX.1's shape; the small one of the tests where the model is small."""
    if setting.size.hidden < 3072:
        return setting.host.load_vae()
    setting.start()
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencodingEngine

    parts = {"double_z": True, "z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
    parts |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    part = "comfy.ldm.modules.diffusionmodules.model."
    made = _without_memory(
        lambda: AutoencodingEngine(
            regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
            encoder_config={"target": f"{part}Encoder", "params": parts},
            decoder_config={"target": f"{part}Decoder", "params": parts},
        ).state_dict()
    )
    return comfy.sd.VAE(sd=random_weights(made, setting))


def edit(setting: Setting, vae: Any, share: float = 1.0) -> dict[str, Any]:
    """KSampler's inputs but the model: a diptych of which this share of the right panel may change."""
    import torch

    size, draw = setting.size, torch.Generator().manual_seed(0)
    prompt = [
        [
            torch.randn(1, size.text_tokens, size.context, generator=draw),
            {"pooled_output": torch.randn(1, size.vector, generator=draw), "guidance": 50.0},
        ]
    ]
    half = torch.rand(1, 8, 8, 3, generator=draw).repeat_interleave(size.panel // 8, 1)
    half = half.repeat_interleave(size.panel // 8, 2)
    side = round(size.panel * share**0.5 / 16) * 16
    first = (size.panel - side) // 32 * 16
    mask = torch.zeros(1, size.panel, 2 * size.panel)
    mask[:, first : first + side, size.panel + first : size.panel + first + side] = 1.0
    positive, negative, latent = setting.host.call(
        "InpaintModelConditioning", positive=prompt, negative=prompt, vae=vae,
        pixels=torch.cat([half, half], dim=2), mask=mask, noise_mask=True,
    )  # fmt: skip
    sampler = {"seed": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    return sampler | {"steps": size.steps, "positive": positive, "negative": negative, "latent_image": latent}
