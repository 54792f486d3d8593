"""The layouts in which tools write LoRA files, as data: what keys end with, and which keys mark a whole layout."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .flux_keys import NAME, flux_layer, host_name, without_prefix

DOWN, UP, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
BIAS, MAGNITUDE = ".lora_B.bias", ".lora_magnitude_vector"

_OTHER_PARTS = (
    *("dora_scale", "diff", "diff_b", "set_weight", "w_norm", "b_norm", "reshape_weight", "oft_blocks", "rescale"),
    *("lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    *("a1.weight", "a2.weight", "b1.weight", "b2.weight"),
)

_PARTS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (part, re.compile(rf"(?P<layer>.+?){ending}"))
    for part, ending in (
        (DOWN, rf"\.lora_A(?:\.(?P<adapter>{NAME}))?(?:\.weight)?"),
        (UP, rf"\.lora_B(?:\.(?P<adapter>{NAME}))?(?:\.weight)?"),
        (DOWN, r"(?:\.lora_|[._]lora\.|\.lora_linear_layer\.|\.)down\.weight"),
        (UP, r"(?:\.lora_|[._]lora\.|\.lora_linear_layer\.|\.)up\.weight"),
        (ALPHA, r"\.alpha"),
        (BIAS, rf"\.lora_B(?:\.(?P<adapter>{NAME}))?\.bias"),
        (MAGNITUDE, rf"\.lora_magnitude_vector(?:\.(?P<adapter>{NAME}))?(?:\.weight)?"),
        *((f".{part}", rf"\.{re.escape(part)}") for part in _OTHER_PARTS),
    )
)
"""What a key ends with as PEFT and diffusers write it (DoRA and biases too), kohya, OneTrainer, XLabs, LyCORIS."""


@dataclass(frozen=True)
class Key:
    """A key of a LoRA file that is understood.

    Attributes:
        layer: the layer in the name that the host knows, without a prefix.
        part: what of that layer, one of the endings of `_PARTS`.
        adapter: the name that PEFT gave the adapter; None without one.
    """

    layer: str
    part: str
    adapter: str | None

    @property
    def base(self) -> str:
        """The layer as the host looks for it."""
        return host_name(self.layer) or self.layer

    @property
    def name(self) -> str:
        return self.base + self.part


def read_key(key: str) -> Key | None:
    """What a key says, in any layout; None when it names no layer of FLUX.1, or no part of a LoRA."""
    for part, pattern in _PARTS:
        match = pattern.fullmatch(key)
        if match is not None:
            layer = flux_layer(match["layer"])
            return None if layer is None else Key(layer, part, match.groupdict().get("adapter"))
    return None


def plain_name(key: str) -> str:
    """The key in the one form that the host knows for it; unchanged when nothing is known about it."""
    known = read_key(key)
    if known is not None:
        return known.name
    bare = without_prefix(key)
    return host_name(bare.replace(".default.", ".")) or key


@dataclass(frozen=True)
class HostLayout:
    """A layout that the host recognizes by some keys, and then converts as a whole: its names have to stay.

    Attributes:
        name: for messages.
        marks: the keys that it is recognized by, as in the host's `comfy.lora_convert`.
        made_for: what models it fits, for messages.
    """

    name: str
    marks: frozenset[str]
    made_for: str


HOST_LAYOUTS = (
    HostLayout(
        "a control LoRA of Black Forest Labs (FLUX.1 Canny or Depth)",
        frozenset({"img_in.lora_A.weight", "single_blocks.0.norm.key_norm.scale"}),
        "FLUX.1-dev, whose first layer it widens",
    ),
)

FOREIGN: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("a whole model, no LoRA", r"(^|\.)(double_|transformer_)blocks\.\d+\.[\w.]*(qkv|to_q|lin|linear)\.weight$"),
        ("a ControlNet, no LoRA", r"^(controlnet_|control_model\.|input_hint_block)"),
        ("an IP-Adapter, no LoRA", r"(^|\.)(ip_adapter|image_proj|ip_adapter_proj_model)\.|processor\.ip_adapter"),
        ("an embedding, no LoRA", r"^(emb_params|clip_l|clip_g|t5xxl|string_to_param.*)$"),
        ("a kind of PEFT's that ComfyUI does not know", r"vera_lambda|vera_A|vera_B|ia3_l|lora_embedding_|hra_u"),
        ("a LoRA for FLUX.2", r"(double|single)_stream_modulation|to_qkv_mlp_proj"),
        ("a LoRA for Qwen-Image", r"transformer_blocks[._]\d+[._](img|txt)_(mlp|mod)[._]"),
        ("a LoRA for Stable Diffusion 3", r"joint_blocks[._]\d+"),
        ("a LoRA for Stable Diffusion or SDXL", r"(input|output|down|up)_blocks[._]\d|(mid|middle)_block[._]"),
        ("a LoRA for Wan", r"(^|[._])blocks[._]\d+[._](self|cross)_attn"),
        ("a LoRA for Z-Image or Lumina", r"(^|[._])layers[._]\d+[._](attention|feed_forward|adaLN)"),
        ("a LoRA for HiDream", r"(double|single)_stream_blocks[._]\d+"),
    )
)  # fmt: skip
"""Marks of files that people take for a LoRA of FLUX.1; the first that matches names it."""

TEXT_ENCODERS = ("lora_te", "text_encoder", "text_encoders.", "lora_prior_te")
KNOWN = "diffusers, PEFT, kohya, OneTrainer, LyCORIS, XLabs or Black Forest Labs"


def host_layout(keys: Collection[str]) -> HostLayout | None:
    return next((layout for layout in HOST_LAYOUTS if layout.marks <= set(keys)), None)


def foreign(keys: Iterable[str]) -> str | None:
    """What a file seems to be whose keys found no place; None when nothing is known about them."""
    keys = tuple(keys)
    return next((name for name, pattern in FOREIGN if any(pattern.search(key) for key in keys)), None)


def bundled_embedding(key: str) -> str | None:
    """The name of the text embedding that a key of a LoRA file belongs to; None for other keys."""
    match = re.fullmatch(r"bundle_emb\.(?P<name>.+?)\.(string_to_param\.\*|emb_params|clip_l|clip_g|t5xxl)", key)
    return None if match is None else match["name"]
