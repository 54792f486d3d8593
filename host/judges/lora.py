"""LoRAs of judges, as PEFT writes them, on the host's vision-language models.

The host knows neither PEFT's names of these models' layers nor the file in which PEFT keeps the scale: its own loader
would load nothing. So names and scale are translated, and the host does the rest.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.utils
import folder_paths
import torch
from torch import Tensor

NO_LORA = "None"
SUFFIX = ".safetensors"
CONFIG = "adapter_config.json"

_KEY = re.compile(r"(?P<layer>.+)\.(?P<part>lora_[AB])(?:\.default)?\.weight")
_PREFIXES = ("base_model.model.", "model.", "language_model.", "model.")
"""What stands before a layer's name, each at most once; which of them depends on the version of transformers."""


def lora_names() -> list[str]:
    """The safetensors files in the host's folder of LoRAs; also in subfolders, where PEFT's files have one name."""
    return [name for name in folder_paths.get_filename_list("loras") if name.lower().endswith(SUFFIX)]


def with_lora(clip: Any, lora_name: str) -> Any:
    """A copy of a CLIP object with a LoRA in PEFT's layout on it.

    Raises:
        ValueError: a part of the file belongs to no layer of the model, or its scale is not known.
    """
    path = Path(folder_paths.get_full_path_or_raise("loras", lora_name))
    tensors = comfy.utils.load_torch_file(str(path), safe_load=True)
    key_map = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
    layers = _layers(clip.cond_stage_model, key_map)
    patches = comfy.lora.load_lora(host_lora(tensors, _scale_of(path), layers, lora_name), key_map)
    patched = clip.clone()
    taken = set(patched.add_patches(patches))
    if left := [key for key in patches if key not in taken]:
        raise ValueError(f"ComfyUI does not take the changes of {lora_name} to {len(left)} layers, such as {left[0]}.")
    return patched


def host_lora(tensors: Mapping[str, Tensor], scale: "PeftScale", layers: Mapping[str, "HostLayer"], name: str) -> Any:
    """The tensors under the names that the host looks for, with the scale of each layer as its alpha.

    `layers` holds the model's layers, by names without a prefix.

    Raises:
        ValueError: a key belongs to no layer, a layer lacks one of its two matrices, or they do not fit it.
    """
    found: dict[str, dict[str, Tensor]] = {}
    foreign = []
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match and (layer := _bare(match["layer"])) in layers:
            found.setdefault(layer, {})[match["part"]] = tensor
        else:
            foreign.append(key)
    if foreign or not found:
        raise ValueError(
            f"{len(foreign)} of {len(tensors)} keys of {name} belong to no layer of the model at clip"
            f"{f', such as {foreign[0]}' if foreign else ''}. Expected a LoRA that PEFT wrote for the same model: an "
            "EditScore or PVC-Judge LoRA for Qwen3-VL 4B goes on the 4B file, one for 8B on the 8B file."
        )
    named = {}
    for layer, parts in found.items():
        _check_fits(parts, layers[layer], layer, name)
        rank = parts["lora_A"].shape[0]
        base = layers[layer].lora_key
        named |= {f"{base}.{part}.weight": tensor for part, tensor in parts.items()}
        named[f"{base}.alpha"] = torch.tensor(scale.of(layer, rank) * rank)
    return named


@dataclass(frozen=True)
class HostLayer:
    """A layer of the model: what the host calls it in LoRA files, and how many features leave and enter it."""

    lora_key: str
    shape: tuple[int, int]


class PeftScale:
    """By how much PEFT multiplies the product of the two matrices of each layer.

    Raises:
        ValueError: the settings belong to something that is no plain LoRA.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        unusual = {"use_dora": False, "fan_in_fan_out": False, "modules_to_save": None, "bias": "none"}
        for setting, usual in unusual.items():
            if config.get(setting, usual) not in (usual, None, False, []):
                raise ValueError(f"{CONFIG} sets {setting} to {config[setting]!r}, expected {usual!r}: a plain LoRA.")
        if config.get("peft_type", "LORA") != "LORA" or not isinstance(config.get("lora_alpha"), (int, float)):
            raise ValueError(f"{CONFIG} is not that of a LoRA: expected peft_type LORA and a number lora_alpha.")
        self._alpha, self._alphas = config["lora_alpha"], config.get("alpha_pattern") or {}
        self._rooted = bool(config.get("use_rslora"))

    def of(self, layer: str, rank: int) -> float:
        matching = (alpha for name, alpha in self._alphas.items() if re.fullmatch(rf"(.*\.)?({name})", layer))
        alpha = next(matching, self._alpha)
        return float(alpha / (math.sqrt(rank) if self._rooted else rank))


def _scale_of(path: Path) -> PeftScale:
    file = path.parent / CONFIG
    if not file.is_file():
        raise ValueError(
            f"{path.name} has no {CONFIG} beside it, and PEFT writes the LoRA's scale there. Put both files of the "
            "download into a folder of their own in models/loras."
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{CONFIG} beside {path.name} cannot be read ({error}). Download it again.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{CONFIG} beside {path.name} holds no settings. Download it again.")
    return PeftScale(config)


def _layers(model: torch.nn.Module, key_map: Mapping[str, str]) -> dict[str, HostLayer]:
    """The model's linear layers by their names without a prefix."""
    found = {}
    for name, module in model.named_modules():
        key = f"text_encoders.{name}"
        # A quantized layer is no torch.nn.Linear, and the shape of its weight may be another one.
        leaving, entering = getattr(module, "out_features", None), getattr(module, "in_features", None)
        if key in key_map and isinstance(leaving, int) and isinstance(entering, int):
            found[_bare(name.partition(".transformer.")[2])] = HostLayer(key, (leaving, entering))
    return found


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _check_fits(parts: Mapping[str, Tensor], layer: HostLayer, name: str, file: str) -> None:
    if len(parts) != 2:
        raise ValueError(f"{file} holds {next(iter(parts))} alone for the layer {name}, expected lora_A and lora_B.")
    down, up = parts["lora_A"], parts["lora_B"]
    fits = down.ndim == up.ndim == 2 and (up.shape[0], down.shape[1]) == layer.shape and up.shape[1] == down.shape[0]
    if not fits:
        raise ValueError(
            f"The matrices of {file} for the layer {name} are {tuple(up.shape)} and {tuple(down.shape)}, and its "
            f"weight is {layer.shape}: the LoRA belongs to a model of another size."
        )
