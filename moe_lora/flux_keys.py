"""Names of FLUX layers in adapter files, and where the host's FLUX keeps those layers."""

import re
from dataclasses import dataclass

PREFIXES = ("base_model.model.", "transformer.", "diffusion_model.", "unet.", "model.")

DIFFUSERS_ROOTS = (
    "transformer_blocks.",
    "single_transformer_blocks.",
    "x_embedder.",
    "context_embedder.",
    "time_text_embed.",
    "norm_out.",
    "proj_out.",
)
HOST_ROOTS = (
    "double_blocks.",
    "single_blocks.",
    "img_in.",
    "txt_in.",
    "time_in.",
    "vector_in.",
    "guidance_in.",
    "final_layer.",
)

_PART = re.compile(
    r"(?P<layer>.+)\.lora_(?P<part>A|B|route)(?:\.default)?(?:\.expert_(?P<expert>0|[1-9]\d{0,3}))?(?:\.default)?\.weight"
)

_ROUTED_LAYERS = (
    (re.compile(r"transformer_blocks\.(\d+)\.ff\.net\.2"), "double_blocks.{}.img_mlp.2"),
    (re.compile(r"single_transformer_blocks\.(\d+)\.proj_out"), "single_blocks.{}.linear2"),
    (re.compile(r"double_blocks\.(\d+)\.img_mlp\.2"), "double_blocks.{}.img_mlp.2"),
    (re.compile(r"single_blocks\.(\d+)\.linear2"), "single_blocks.{}.linear2"),
)


@dataclass(frozen=True)
class RoutedKey:
    """A tensor of a routed layer: `part` is A, B or route; a router belongs to no expert."""

    layer: str
    part: str
    expert: int | None


def plain_name(key: str) -> str:
    """The key with prefixes that the host does not know replaced by those it does, without `.default`.

    Names that are not FLUX layers (kohya's underscores, text encoders) stay as they are.
    """
    bare = without_prefix(key)
    if bare.startswith(DIFFUSERS_ROOTS):
        return "transformer." + bare.replace(".default.", ".")
    if bare.startswith(HOST_ROOTS):
        return "diffusion_model." + bare.replace(".default.", ".")
    return key


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
    return RoutedKey(match["layer"], match["part"], expert)


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
