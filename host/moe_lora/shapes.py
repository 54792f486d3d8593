"""Whether the patches of a LoRA fit their weights. The host finds out when sampling starts."""

import math
from collections.abc import Mapping
from typing import Any

import comfy.utils
from torch import Tensor

from ...moe_lora.errors import FileError, ModelMismatchError
from ...moe_lora.layouts import HostLayout
from .flux_model import way_out
from .peft import PeftDoRA

Target = str | tuple[Any, ...]


def check_targets(
    model: Any, patches: Mapping[Target, Any], names: Mapping[int, str], layout: HostLayout | None
) -> None:
    """Compare every patch with its weight.

    Args:
        model: the host's model patcher.
        patches: as the host makes them.
        names: id of a tensor -> its key in the file, for messages.
        layout: the file's, where the host converts it as a whole.

    Raises:
        FileError: the two halves of a pair do not fit each other.
        ModelMismatchError: a weight has another shape.
    """
    for target, patch in patches.items():
        if getattr(patch, "name", None) == "lora":
            _check_pair(model, target, patch, names, layout)
        elif getattr(patch, "name", None) in ("loha", "lokr"):
            _check_product(model, target, patch)
        elif isinstance(patch, tuple) and patch[0] in ("diff", "set"):
            tensor, key = patch[1][0], names.get(id(patch[1][0]), str(target))
            try:
                shape = target_shape(model, target)
            except (AttributeError, KeyError, IndexError) as error:
                raise ModelMismatchError(
                    f"{key} changes {target}, which this model ({type(model.model).__name__}) does not have. "
                    f"{way_out(model)}"
                ) from error
            if tuple(tensor.shape) != shape:
                raise ModelMismatchError(_mismatch(model, key, tensor, f"the weight there has {list(shape)}", layout))


def _check_pair(model: Any, target: Target, patch: Any, names: Mapping[int, str], layout: HostLayout | None) -> None:
    up, down, _, mid, magnitude, reshape = patch.weights
    up_key, down_key = (names.get(id(tensor), str(target)) for tensor in (up, down))
    if mid is not None:
        return
    if down.ndim < 2 or up.ndim < 2 or up.shape[1] != down.shape[0] or 0 in up.shape:
        raise FileError(
            f"{up_key} has the shape {list(up.shape)} and {down_key} {list(down.shape)}, expected [outputs, rank] "
            "and [rank, inputs] with the same rank. The file is damaged; download it again."
        )
    outputs, inputs = _features(target_shape(model, target))
    there = f"the layer takes {inputs} and gives {outputs} features"
    if reshape is not None and outputs <= reshape[0] and inputs <= reshape[1]:
        outputs, inputs = reshape
    if (up.shape[0], math.prod(down.shape[1:])) != (outputs, inputs):
        key, found = (up_key, up) if up.shape[0] != outputs else (down_key, down)
        raise ModelMismatchError(_mismatch(model, key, found, there, layout))
    fitting = (outputs,) if isinstance(patch, PeftDoRA) else (outputs, inputs)
    if magnitude is not None and magnitude.numel() not in fitting:
        key = names.get(id(magnitude), str(target))
        raise ModelMismatchError(_mismatch(model, key, magnitude, there, layout))


def _check_product(model: Any, target: Target, patch: Any) -> None:
    """LyCORIS' products of two matrices, each of which may be a product itself."""
    if patch.name == "loha":
        w1_a, w1_b, _, w2_a, w2_b, t1, t2, _ = patch.weights
        parts = (None, w1_a, w1_b), (None, w2_a, w2_b)
    else:
        w1, w2, _, w1_a, w1_b, w2_a, w2_b, t2, _ = patch.weights
        parts, t1 = ((w1, w1_a, w1_b), (w2, w2_a, w2_b)), None
    if t1 is not None or t2 is not None:
        return
    one, two = (_factor(*part) for part in parts)
    if one is None or two is None:
        raise FileError(
            f"The {patch.name} matrices for {target} in the file do not fit each other, or one is missing. The file is "
            "damaged; download it again."
        )
    found = [one, two] if patch.name == "loha" else [(one[0] * two[0], one[1] * two[1])]
    outputs, inputs = _features(target_shape(model, target))
    for shape in found:
        if shape != (outputs, inputs):
            raise ModelMismatchError(
                f"The {patch.name} matrices for {target} in the file take {shape[1]} and give {shape[0]} features; the "
                f"layer of this model ({type(model.model).__name__}) takes {inputs} and gives {outputs}. The file was "
                f"made for another model. {way_out(model)}"
            )


def _factor(whole: Tensor | None, left: Tensor | None, right: Tensor | None) -> tuple[int, int] | None:
    if whole is not None:
        return _features(tuple(whole.shape)) if whole.ndim > 1 else None
    if left is None or right is None or left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        return None
    return left.shape[0], right.shape[1]


def _mismatch(model: Any, key: str, tensor: Tensor, there: str, layout: HostLayout | None) -> str:
    lead = f"{key} has the shape {list(tensor.shape)}; in this model ({type(model.model).__name__}) {there}. "
    if layout is not None:
        return f"{lead}The file is {layout.name}, made for {layout.made_for}. Load that model for it."
    return f"{lead}The file was made for another model. {way_out(model)}"


def _features(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])


def target_shape(model: Any, target: Target) -> tuple[int, ...]:
    """The shape of the weight, or of the rows of a fused one, that a patch goes to."""
    key, rows = (target, None) if isinstance(target, str) else (target[0], target[1])
    module = comfy.utils.get_attr(model.model, key.rpartition(".")[0])
    if hasattr(module, "in_features") and key.endswith(".weight"):
        # A quantized layer's weight has a shape of its own.
        shape = (module.out_features, module.in_features)
    else:
        shape = tuple(comfy.utils.get_attr(model.model, key).shape)
    return shape if rows is None else (rows[2], *shape[1:])
