"""LoRA files as the field's tools write them, of one set of numbers."""

import json

import torch

from . import moe

RANK = 4
DIFFUSERS = {
    "transformer_blocks.0.attn.to_q": (128, 128),
    "transformer_blocks.1.attn.to_add_out": (128, 128),
    "transformer_blocks.1.attn.to_out.0": (128, 128),
    "transformer_blocks.0.ff.net.0.proj": (512, 128),
    "transformer_blocks.1.ff_context.net.2": (128, 512),
    "single_transformer_blocks.1.attn.to_k": (128, 128),
    "single_transformer_blocks.0.proj_mlp": (512, 128),
    "norm_out.linear": (256, 128),
    "x_embedder": (128, 384),
    "time_text_embed.guidance_embedder.linear_1": (128, 256),
}
HOSTS = {
    "double_blocks.0.img_attn.qkv": (384, 128),
    "double_blocks.1.txt_attn.proj": (128, 128),
    "double_blocks.0.img_mod.lin": (768, 128),
    "double_blocks.1.img_mlp.2": (128, 512),
    "single_blocks.1.linear1": (896, 128),
    "single_blocks.0.modulation.lin": (384, 128),
    "img_in": (128, 384),
    "final_layer.adaLN_modulation.1": (256, 128),
}


def pairs(layers, down="lora_A.weight", up="lora_B.weight", name=str, seed=0):
    """A LoRA on these layers, the same numbers under any names."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer, (outputs, inputs) in layers.items():
        tensors[f"{name(layer)}.{down}"] = torch.randn(RANK, inputs, generator=draw) / inputs**0.5
        tensors[f"{name(layer)}.{up}"] = torch.randn(outputs, RANK, generator=draw) / RANK
    return tensors


def joined(prefix):
    return lambda layer: prefix + layer.replace(".", "_")


def header(**settings):
    return {"lora_adapter_metadata": json.dumps({f"transformer.{name}": value for name, value in settings.items()})}


def bfl_control(blocks=2):
    """As FLUX.1 Canny and Depth come as LoRAs: twice the input, biases, and norms to be set."""
    layers = HOSTS | {"img_in": (128, 128)}
    draw = torch.Generator().manual_seed(4)
    tensors = pairs(layers)
    tensors |= {f"{layer}.lora_B.bias": torch.randn(shape[0], generator=draw) / 9 for layer, shape in layers.items()}
    norms = [f"single_blocks.{i}.norm" for i in range(blocks)]
    norms += [f"double_blocks.{i}.{stream}_attn.norm" for i in range(blocks) for stream in ("img", "txt")]
    return tensors | {
        f"{n}.{part}_norm.scale": torch.rand(128, generator=draw) for n in norms for part in ("key", "query")
    }


def flux_model(**shape):
    import comfy.sd

    from support.tiny_stack import FluxShape, flux

    return comfy.sd.load_diffusion_model_state_dict(flux(FluxShape(**shape)), {"dtype": torch.float32})


def assert_same_weights(ours, wanted):
    found, expected, base = moe.merged(ours), moe.merged(wanted), wanted.model.state_dict()
    assert found.keys() == expected.keys()
    for key, weight in expected.items():
        assert weight.shape != base[key].shape or weight.ne(base[key]).any(), key
        torch.testing.assert_close(found[key], weight, rtol=1e-5, atol=1e-6)
