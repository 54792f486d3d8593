"""Ordinary LoRA tensors through the host's own loader, with every tensor accounted for."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.utils
from torch import Tensor

from ..moe_lora.errors import FileError, ModelMismatchError

Target = str | tuple[Any, ...]
LOAD_FILL = "Load FLUX.1-Fill (flux1-fill-dev.safetensors, Load Diffusion Model), the model that ICEdit was trained on."


class _Watched(dict[str, Tensor]):
    """Remembers which values were asked for: the host reports the keys that it dropped to its log only."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Tensor:
        self.read.add(key)
        return super().__getitem__(key)


def host_patches(model: Any, tensors: Mapping[str, Tensor], keys: Mapping[str, str]) -> dict[Target, Any]:
    """The host's weight patches for the tensors of an ordinary LoRA.

    Args:
        model: the host's model patcher.
        tensors: in names that the host knows.
        keys: name -> key in the file, for messages.

    Raises:
        FileError: half of a pair is missing.
        ModelMismatchError: the host has no place for a key, or one of another shape.
    """
    converted = _Watched(comfy.lora_convert.convert_lora(dict(tensors)))
    key_map = comfy.lora.model_lora_keys_unet(model.model, {})
    try:
        patches = comfy.lora.load_lora(converted, key_map, log_missing=False)
    except KeyError as error:
        raise FileError(f"{error.args[0]} is missing: the file holds only the other half of that pair.") from error
    _check_all_used(converted, patches, keys, model)
    _check_targets(model, patches, {id(tensor): keys.get(name, name) for name, tensor in converted.items()})
    return patches


def _check_all_used(tensors: _Watched, patches: Mapping[Target, Any], keys: Mapping[str, str], model: Any) -> None:
    used = {id(tensor) for patch in patches.values() for tensor in _tensors(patch)}
    # The host turns these two kinds into numbers; the tensors themselves do not get into the patches.
    numbers = {key for key in tensors.read if key.endswith((".alpha", ".reshape_weight"))}
    bases = {
        key.rpartition(".lora")[0] or key.rpartition(".")[0] for key, value in tensors.items() if id(value) in used
    }
    dropped = [
        keys.get(key, key)
        for key, value in tensors.items()
        if id(value) not in used and not (key in numbers and key.rpartition(".")[0] in bases)
    ]
    if dropped:
        text = any(key.startswith(("lora_te", "text_encoder")) for key in dropped)
        raise ModelMismatchError(
            f"{', '.join(dropped[:4])}{f' and {len(dropped) - 4} more keys' if len(dropped) > 4 else ''} would not be "
            f"loaded: ComfyUI has no such weight in this model ({type(model.model).__name__}), expected a place for "
            "every key. "
            + ("They belong to a text encoder; use Load LoRA (Model and CLIP) for this file." if text else LOAD_FILL)
        )


def _tensors(patch: Any) -> Iterator[Tensor]:
    if isinstance(patch, Tensor):
        yield patch
    elif isinstance(patch, tuple | list):
        for part in patch:
            yield from _tensors(part)
    elif hasattr(patch, "weights"):
        yield from _tensors(patch.weights)


def _check_targets(model: Any, patches: Mapping[Target, Any], names: Mapping[int, str]) -> None:
    """A pair of another shape would be left out with a line in the log when sampling starts."""
    for target, patch in patches.items():
        if getattr(patch, "name", None) != "lora":
            continue
        up, down, _, mid, _, reshape = patch.weights
        up_key, down_key = (names.get(id(tensor), str(target)) for tensor in (up, down))
        if mid is not None or reshape is not None:
            continue
        outputs, inputs = target_shape(model, target)
        if down.ndim < 2 or up.ndim < 2 or up.shape[1] != down.shape[0] or 0 in up.shape:
            raise FileError(
                f"{up_key} has the shape {list(up.shape)} and {down_key} {list(down.shape)}, expected [outputs, rank] "
                "and [rank, inputs] with the same rank. The file is damaged; download it again."
            )
        if (up.shape[0], math.prod(down.shape[1:])) != (outputs, inputs):
            key, found = (up_key, up) if up.shape[0] != outputs else (down_key, down)
            raise ModelMismatchError(
                f"{key} has the shape {list(found.shape)}; the layer of this model ({type(model.model).__name__}) "
                f"takes {inputs} and gives {outputs} features. The file was made for another model. {LOAD_FILL}"
            )


def target_shape(model: Any, target: Target) -> tuple[int, int]:
    """(outputs, inputs) of the weight, or of the rows of a fused one, that a patch goes to."""
    key, rows = (target, None) if isinstance(target, str) else (target[0], target[1])
    module = comfy.utils.get_attr(model.model, key.rpartition(".")[0])
    if hasattr(module, "in_features"):
        # A quantized layer's weight has a shape of its own.
        outputs, inputs = module.out_features, module.in_features
    else:
        shape = comfy.utils.get_attr(model.model, key).shape
        outputs, inputs = shape[0], math.prod(shape[1:])
    return (outputs if rows is None else rows[2]), inputs
