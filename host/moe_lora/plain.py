"""Patches for the ordinary LoRA layers, made by the host's own loader; every tensor is used, or an error names it."""

from collections.abc import Mapping
from typing import Any

import comfy.lora
import comfy.lora_convert
from torch import Tensor

from ...moe_lora import layouts
from ...moe_lora.checkpoint import Adapter
from ...moe_lora.errors import DOWNLOAD, FileError, ModelMismatchError
from ..weight_patches import patch_tensors
from .flux_model import inner_path, way_out
from .peft import add_biases, make_dora
from .shapes import Target, check_targets


def host_patches(model: Any, adapter: Adapter) -> dict[Target, Any]:
    """The host's weight patches for the ordinary layers of an adapter.

    Raises:
        FileError: matrices that belong together do not fit each other, or one is missing.
        ModelMismatchError: the host has no place for a key, or one of another shape.
    """
    known = {
        name: tensor for name, tensor in adapter.plain.items() if not name.endswith((layouts.BIAS, layouts.MAGNITUDE))
    }
    # Of a layout that the host converts as a whole, these are the host's too.
    converted = comfy.lora_convert.convert_lora(dict(adapter.plain if adapter.layout else known))
    key_map = _key_map(model)
    try:
        patches = comfy.lora.load_lora(converted, key_map, log_missing=False)
    except KeyError as error:
        raise FileError(f"{error.args[0]} is missing: the file holds only the other part of it. {DOWNLOAD}") from error
    # The host only logs what it drops.
    used = _used(converted, patches)
    if dropped := [key for key in converted if key not in used]:
        raise ModelMismatchError(_why_dropped(dropped, adapter, model))
    names = {id(tensor): adapter.keys.get(name, name) for name, tensor in (*adapter.plain.items(), *converted.items())}
    if adapter.layout is None:
        make_dora(patches, key_map, adapter)
        add_biases(patches, key_map, adapter)
    check_targets(model, patches, names, adapter.layout)
    return patches


def _key_map(model: Any) -> dict[str, Target]:
    """The host's names of LoRA layers and the weights they stand for, as without a wrapper around its FLUX."""
    names = comfy.lora.model_lora_keys_unet(model.model, {})
    inner = inner_path(model)
    if not inner:
        return names
    root, weights = "diffusion_model.", model.model.state_dict().keys()

    def moved(target: Target) -> Target:
        key = target if isinstance(target, str) else target[0]
        below = f"{root}{inner}{key.removeprefix(root)}"
        key = below if below in weights else key
        return key if isinstance(target, str) else (key, *target[1:])

    plain = {name.replace(f"{root}{inner}", root, 1): target for name, target in names.items()}
    return {name: moved(target) for name, target in (names | plain).items()}


def _used(tensors: Mapping[str, Tensor], patches: Mapping[Target, Any]) -> set[str]:
    """The keys that the host made its patches from."""
    patched = {id(tensor) for patch in patches.values() for tensor in patch_tensors(patch)}
    used = {key for key, tensor in tensors.items() if id(tensor) in patched}
    # Of these two kinds the patches hold numbers, not the tensors: an alpha beside any part of its layer, a new shape
    # beside a pair of matrices.
    layers = {key.rpartition(".lora")[0] or key.rpartition(".")[0] for key in used}
    pairs = {key.rpartition(".lora")[0] for key in used}
    return used | {f"{layer}.alpha" for layer in layers} | {f"{layer}.reshape_weight" for layer in pairs}


def _why_dropped(dropped: list[str], adapter: Adapter, model: Any) -> str:
    keys = [adapter.keys.get(key, key) for key in dropped]
    more = f" and {len(keys) - 4} more keys" if len(keys) > 4 else ""
    lead = f"{', '.join(keys[:4])}{more} would not be loaded: "
    if any(key.startswith(layouts.TEXT_ENCODERS) for key in keys):
        return (
            f"{lead}ComfyUI has a place for them in a text encoder only, and this node has none, expected a place for "
            "every key. Use Load LoRA (Model and CLIP) for this file."
        )
    if (foreign := layouts.foreign(adapter.keys.values())) is not None:
        return f"{lead}the file seems to be {foreign}, expected a LoRA for FLUX.1, every key used. {way_out(model)}"
    if adapter.layout is not None:
        return (
            f"{lead}this is {adapter.layout.name}, expected a place for every key. It is made for "
            f"{adapter.layout.made_for}. Load that model for it."
        )
    if all(layouts.read_key(key) is not None for key in keys):
        return (
            f"{lead}ComfyUI has no such weight in this model ({type(model.model).__name__}), expected a place for "
            f"every key. {way_out(model)}"
        )
    return (
        f"{lead}this is a layout that is not known here, expected a place for every key, in the names of "
        f"{layouts.KNOWN}. Ask the one who made the file for one of these. {way_out(model)}"
    )
