"""Random weights in the published file formats, the same ones every time, for tests. Needs torch and safetensors."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

StateDict = dict[str, Tensor]

HEAD_DIM = 128
"""Fixed by FLUX's position embedding; the hidden size is a multiple of it."""


@dataclass(frozen=True)
class FluxShape:
    """Shape of a FLUX model. FLUX.1-Fill itself is FluxShape(3072, 19, 38, 4096, 768)."""

    hidden: int = 128
    double_blocks: int = 1
    single_blocks: int = 1
    context: int = 32
    vector: int = 32
    in_features: int = 384
    guidance: bool = True


CLIP_L = dict(hidden_size=32, intermediate_size=64, num_attention_heads=2, num_hidden_layers=2, projection_dim=32)
T5 = dict(d_model=32, d_ff=64, d_kv=16, num_heads=2, num_layers=1)


class _Random:
    """Draws named tensors into a state dict."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.weights: StateDict = {}

    def tensor(self, name: str, *shape: int, scale: float) -> None:
        self.weights[name] = torch.randn(*shape, generator=self.generator) * scale

    def linear(self, name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        self.tensor(f"{name}.weight", outputs, inputs, scale=inputs**-0.5)
        if bias:
            self.tensor(f"{name}.bias", outputs, scale=0.02)

    def conv(self, name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        self.tensor(f"{name}.weight", outputs, inputs, 3, 3, scale=(inputs * 9) ** -0.5)
        if bias:
            self.tensor(f"{name}.bias", outputs, scale=0.01)

    def ones(self, name: str, size: int) -> None:
        self.weights[name] = torch.ones(size)


def flux(shape: FluxShape = FluxShape(), seed: int = 0) -> StateDict:
    """A FLUX model in the host's own key names; 384 input features make it a Fill model, 64 a text-to-image one."""
    draw, hidden = _Random(seed), shape.hidden
    draw.linear("img_in", shape.in_features, hidden)
    draw.linear("txt_in", shape.context, hidden)
    embedders = {"time_in": 256, "vector_in": shape.vector} | ({"guidance_in": 256} if shape.guidance else {})
    for name, inputs in embedders.items():
        draw.linear(f"{name}.in_layer", inputs, hidden)
        draw.linear(f"{name}.out_layer", hidden, hidden)
    for block in range(shape.double_blocks):
        for stream in ("img", "txt"):
            name = f"double_blocks.{block}.{stream}"
            draw.linear(f"{name}_mod.lin", hidden, 6 * hidden)
            draw.linear(f"{name}_attn.qkv", hidden, 3 * hidden)
            draw.ones(f"{name}_attn.norm.query_norm.scale", HEAD_DIM)
            draw.ones(f"{name}_attn.norm.key_norm.scale", HEAD_DIM)
            draw.linear(f"{name}_attn.proj", hidden, hidden)
            draw.linear(f"{name}_mlp.0", hidden, 4 * hidden)
            draw.linear(f"{name}_mlp.2", 4 * hidden, hidden)
    for block in range(shape.single_blocks):
        name = f"single_blocks.{block}"
        draw.linear(f"{name}.linear1", hidden, 7 * hidden)
        draw.linear(f"{name}.linear2", 5 * hidden, hidden)
        draw.ones(f"{name}.norm.query_norm.scale", HEAD_DIM)
        draw.ones(f"{name}.norm.key_norm.scale", HEAD_DIM)
        draw.linear(f"{name}.modulation.lin", hidden, 3 * hidden)
    draw.linear("final_layer.linear", hidden, 64)
    draw.linear("final_layer.adaLN_modulation.1", hidden, 2 * hidden)
    return draw.weights


def lora(shape: FluxShape = FluxShape(), rank: int = 4, seed: int = 10) -> StateDict:
    """An ordinary LoRA in the key names of the published ICEdit one (diffusers)."""
    draw, hidden = _Random(seed), shape.hidden

    def pair(name: str, inputs: int, outputs: int) -> None:
        draw.tensor(f"transformer.{name}.lora_A.weight", rank, inputs, scale=inputs**-0.5)
        draw.tensor(f"transformer.{name}.lora_B.weight", outputs, rank, scale=0.5 * rank**-0.5)

    pair("x_embedder", shape.in_features, hidden)
    for block in range(shape.double_blocks):
        name = f"transformer_blocks.{block}"
        for target in ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"):
            pair(f"{name}.{target}", hidden, hidden)
        pair(f"{name}.norm1.linear", hidden, 6 * hidden)
    for block in range(shape.single_blocks):
        name = f"single_transformer_blocks.{block}"
        for target in ("attn.to_q", "attn.to_k", "attn.to_v"):
            pair(f"{name}.{target}", hidden, hidden)
        pair(f"{name}.norm.linear", hidden, 3 * hidden)
        pair(f"{name}.proj_mlp", hidden, 4 * hidden)
    return draw.weights


def moe_lora(shape: FluxShape = FluxShape(), rank: int = 4, experts: int = 4, seed: int = 11) -> StateDict:
    """A LoRA with routed experts in the key names of the published ICEdit-MoE-LoRA."""
    weights = lora(shape, rank, seed)
    draw, hidden = _Random(seed + 1), shape.hidden

    def routed(name: str, inputs: int, outputs: int) -> None:
        for expert in range(experts):
            draw.tensor(f"transformer.{name}.lora_A.expert_{expert}.weight", rank, inputs, scale=inputs**-0.5)
            draw.tensor(f"transformer.{name}.lora_B.expert_{expert}.weight", outputs, rank, scale=0.5 * rank**-0.5)
        draw.tensor(f"transformer.{name}.lora_route.weight", experts, inputs, scale=inputs**-0.5)

    for block in range(shape.double_blocks):
        routed(f"transformer_blocks.{block}.ff.net.2", 4 * hidden, hidden)
    for block in range(shape.single_blocks):
        routed(f"single_transformer_blocks.{block}.proj_out", 5 * hidden, hidden)
    return weights | draw.weights


def clip_l(seed: int = 1) -> StateDict:
    """A CLIP-L text encoder of `CLIP_L` shape; the vocabulary is the tokenizer's."""
    draw, width, inner = _Random(seed), CLIP_L["hidden_size"], CLIP_L["intermediate_size"]
    draw.tensor("text_model.embeddings.token_embedding.weight", 49408, width, scale=0.02)
    draw.tensor("text_model.embeddings.position_embedding.weight", 77, width, scale=0.02)
    norms = ["text_model.final_layer_norm"]
    for layer in range(CLIP_L["num_hidden_layers"]):
        name = f"text_model.encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            draw.linear(f"{name}.self_attn.{part}", width, width)
        draw.linear(f"{name}.mlp.fc1", width, inner)
        draw.linear(f"{name}.mlp.fc2", inner, width)
        norms += [f"{name}.layer_norm1", f"{name}.layer_norm2"]
    for name in norms:
        draw.ones(f"{name}.weight", width)
        draw.weights[f"{name}.bias"] = torch.zeros(width)
    draw.weights["text_projection.weight"] = torch.eye(width)
    return draw.weights


def t5(seed: int = 2) -> StateDict:
    """A T5 encoder of `T5` shape; the vocabulary is the tokenizer's."""
    draw, width, inner = _Random(seed), T5["d_model"], T5["d_kv"] * T5["num_heads"]
    draw.tensor("shared.weight", 32128, width, scale=0.05)
    for layer in range(T5["num_layers"]):
        name = f"encoder.block.{layer}.layer"
        for part in "qkv":
            draw.linear(f"{name}.0.SelfAttention.{part}", width, inner, bias=False)
        draw.linear(f"{name}.0.SelfAttention.o", inner, width, bias=False)
        if layer == 0:
            bias = f"{name}.0.SelfAttention.relative_attention_bias.weight"
            draw.tensor(bias, 32, T5["num_heads"], scale=0.1)
        for part in ("wi_0", "wi_1"):
            draw.linear(f"{name}.1.DenseReluDense.{part}", width, T5["d_ff"], bias=False)
        draw.linear(f"{name}.1.DenseReluDense.wo", T5["d_ff"], width, bias=False)
        for part in (0, 1):
            draw.ones(f"{name}.{part}.layer_norm.weight", width)
    draw.ones("encoder.final_layer_norm.weight", width)
    return draw.weights


def vae(seed: int = 3) -> StateDict:
    """A 16-channel autoencoder in TAESD layout, one file that VAELoader takes."""
    draw = _Random(seed)

    def half(prefix: str, convs: dict[int, tuple[int, int]], bare: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        for index, (inputs, outputs) in convs.items():
            draw.conv(f"{prefix}.{index}", inputs, outputs)
        for index in bare:
            draw.conv(f"{prefix}.{index}", 64, 64, bias=False)
        for index in blocks:
            for part in (0, 2, 4):
                draw.conv(f"{prefix}.{index}.conv.{part}", 64, 64)

    half("taesd_encoder", {0: (3, 64), 14: (64, 16)}, (2, 6, 10), (1, 3, 4, 5, 7, 8, 9, 11, 12, 13))
    half("taesd_decoder", {1: (16, 64), 19: (64, 3)}, (7, 12, 17), (3, 4, 5, 8, 9, 10, 13, 14, 15, 18))
    draw.weights["vae_scale"] = torch.tensor(0.3611)
    draw.weights["vae_shift"] = torch.tensor(0.1159)
    return draw.weights


def write_stack(models: Path) -> None:
    """Write the whole stack under the common file names, so that the shipped workflows run on it unchanged."""
    files: dict[str, tuple[StateDict, dict[str, object] | None]] = {
        "diffusion_models/flux1-fill-dev.safetensors": (flux(), None),
        "diffusion_models/flux1-dev.safetensors": (flux(FluxShape(in_features=64)), None),
        # The host knows the real encoders' sizes only; tiny ones carry theirs for the text_encoders custom node.
        "text_encoders/clip_l.safetensors": (clip_l(), {"model_config": CLIP_L}),
        "text_encoders/t5xxl_fp8_e4m3fn.safetensors": (t5(), {"t5xxl_model_config": T5}),
        "vae/ae.safetensors": (vae(), None),
        "loras/icedit_normal_lora.safetensors": (lora(), None),
        "loras/icedit_moe_lora.safetensors": (moe_lora(), None),
    }
    for name, (weights, encoder) in files.items():
        path = models / name
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"tiny_text_encoder": json.dumps(encoder)} if encoder else None
        save_file({key: value.contiguous() for key, value in weights.items()}, path, metadata=metadata)
