"""Names of FLUX.1's layers in adapter files, and where the host's FLUX keeps those layers."""

import re
from dataclasses import dataclass

PREFIXES = ("base_model.model.", "transformer.", "diffusion_model.", "unet.", "model.")

NAME = r"(?!expert_\d|weight\b|bias\b)[^.]+"
"""The adapter's name that PEFT puts into a key, "default" for example."""

_PART = re.compile(
    rf"(?P<layer>.+)\.lora_(?P<part>A|B|route)(?:\.(?P<before>{NAME}))?"
    rf"(?:\.expert_(?P<expert>0|[1-9]\d{{0,3}}))?(?:\.(?P<after>{NAME}))?\.weight"
)

_ROUTED_LAYERS = (
    (re.compile(r"transformer_blocks\.(\d+)\.ff\.net\.2"), "double_blocks.{}.img_mlp.2"),
    (re.compile(r"single_transformer_blocks\.(\d+)\.proj_out"), "single_blocks.{}.linear2"),
    (re.compile(r"double_blocks\.(\d+)\.img_mlp\.2"), "double_blocks.{}.img_mlp.2"),
    (re.compile(r"single_blocks\.(\d+)\.linear2"), "single_blocks.{}.linear2"),
)

_STREAMS = ("mod.lin", "attn.qkv", "attn.proj", "attn.norm.query_norm", "attn.norm.key_norm", "mlp.0", "mlp.2")
_PROJECTIONS = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out")
_FEED_FORWARD = ("net.0.proj", "net.2", "linear_in", "linear_out")
_EMBEDDERS = ("in_layer", "out_layer")

BLOCK_LAYERS: dict[str, dict[str, str]] = {
    "transformer_blocks": {
        name: name
        for name in (
            *(f"attn.{layer}" for layer in (*_PROJECTIONS, "norm_q", "norm_k", "norm_added_q", "norm_added_k")),
            *("norm1.linear", "norm1_context.linear"),
            *(f"{stream}.{layer}" for stream in ("ff", "ff_context") for layer in _FEED_FORWARD),
        )
    },
    "single_transformer_blocks": {
        name: name
        for name in (
            *(f"attn.{layer}" for layer in ("to_q", "to_k", "to_v", "norm_q", "norm_k")),
            *("norm.linear", "proj_mlp", "proj_out"),
        )
    },
    "double_blocks": {f"{stream}_{layer}": f"{stream}_{layer}" for stream in ("img", "txt") for layer in _STREAMS}
    | {
        "processor.qkv_lora1": "img_attn.qkv",
        "processor.proj_lora1": "img_attn.proj",
        "processor.qkv_lora2": "txt_attn.qkv",
        "processor.proj_lora2": "txt_attn.proj",
    },
    "single_blocks": {
        name: name
        for name in ("linear1", "linear2", "linear1_qkv", "modulation.lin", "norm.query_norm", "norm.key_norm")
    }
    | {"processor.qkv": "linear1_qkv", "processor.proj": "linear2"},
}
"""Of each kind of block: a layer's name in files -> the name that the host knows. XLabs' names are the `processor` ones
(of a single block's `processor.qkv_lora.down.weight`, `_lora.down.weight` is how it writes the matrix)."""

SINGLE_LAYERS = (
    *("x_embedder", "context_embedder", "norm_out.linear", "proj_out"),
    *(
        f"time_text_embed.{embedder}_embedder.linear_{number}"
        for embedder in ("timestep", "text", "guidance")
        for number in (1, 2)
    ),
    *("img_in", "txt_in", "final_layer.linear", "final_layer.adaLN_modulation.1"),
    *(f"{embedder}_in.{layer}" for embedder in ("time", "vector", "guidance") for layer in _EMBEDDERS),
)

DIFFUSERS_ROOTS = ("transformer_blocks.", "single_transformer_blocks.", "x_embedder.", "context_embedder.")
DIFFUSERS_ROOTS += ("time_text_embed.", "norm_out.", "proj_out.")
HOST_ROOTS = ("double_blocks.", "single_blocks.", "img_in.", "txt_in.", "time_in.", "vector_in.", "guidance_in.")
HOST_ROOTS += ("final_layer.",)


def _joined(name: str) -> str:
    return name.replace(".", "_")


_JOINED_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_", *map(_joined, PREFIXES))
_JOINED_SINGLE = {_joined(name): name for name in SINGLE_LAYERS}
_JOINED_BLOCK = {block: {_joined(name): to for name, to in names.items()} for block, names in BLOCK_LAYERS.items()}
_IN_BLOCK = re.compile(rf"({'|'.join(BLOCK_LAYERS)})_(\d+)_(.+)")


@dataclass(frozen=True)
class RoutedKey:
    """A tensor of a routed layer: `part` is A, B or route; a router belongs to no expert."""

    layer: str
    part: str
    expert: int | None
    adapter: str | None = None


def flux_layer(name: str) -> str | None:
    """The name that the host gives a layer of FLUX.1, without prefix; None for what is no layer of FLUX.1.

    Tools replace some dots by underscores (kohya all, musubi-tuner some), and write prefixes of their own. With all
    dots replaced the names of FLUX.1's layers still differ, so any mixture is understood.
    """
    name = _joined(name).rstrip("_")
    while True:
        if name in _JOINED_SINGLE:
            return _JOINED_SINGLE[name]
        match = _IN_BLOCK.fullmatch(name)
        if match is not None and match[3] in _JOINED_BLOCK[match[1]]:
            return f"{match[1]}.{int(match[2])}.{_JOINED_BLOCK[match[1]][match[3]]}"
        prefix = next((prefix for prefix in _JOINED_PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            return None
        name = name.removeprefix(prefix)


def host_name(bare: str) -> str | None:
    """A layer's or key's bare name with the prefix under which the host looks for it; None when it would not."""
    if f"{bare}.".startswith(DIFFUSERS_ROOTS):
        return "transformer." + bare
    if f"{bare}.".startswith(HOST_ROOTS):
        return "diffusion_model." + bare
    return None


def without_prefix(key: str) -> str:
    """The key without the prefixes that training tools put before a model's own names."""
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if key.startswith(prefix):
                key, stripped = key[len(prefix) :], True
    return key


def routed_key(key: str) -> RoutedKey | None:
    """What a key says about a routed layer; None for keys of ordinary LoRA."""
    match = _PART.fullmatch(without_prefix(key))
    if match is None or (match["part"] != "route" and match["expert"] is None):
        return None
    expert = None if match["expert"] is None else int(match["expert"])
    return RoutedKey(match["layer"], match["part"], expert, match["before"] or match["after"])


def alpha_layer(key: str) -> str | None:
    """The layer whose alpha this key holds; None for other keys."""
    bare = without_prefix(key)
    return bare[: -len(".alpha")] if bare.endswith(".alpha") else None


def routed_path(layer: str) -> str | None:
    """Where the host's FLUX keeps a routed layer, relative to its diffusion model; None where experts cannot be."""
    for pattern, path in _ROUTED_LAYERS:
        match = pattern.fullmatch(layer)
        if match is not None:
            return path.format(int(match[1]))
    return None


def diffusers_name(path: str) -> str:
    """The name, with prefix, that diffusers gives the layer at this path of the host's FLUX, for one that `routed_path`
    gives."""
    kind, number, *_ = path.split(".")
    layer = "transformer_blocks.{}.ff.net.2" if kind == "double_blocks" else "single_transformer_blocks.{}.proj_out"
    return "transformer." + layer.format(number)
