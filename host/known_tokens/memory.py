"""Memory for what is kept of known tokens: the host counts it when it loads the model."""

import math
from collections.abc import Sequence
from typing import Any

import comfy.model_management
from torch import Tensor

from ..compiled import inside_compiled


def store_bytes(model: Any, rows: int, tokens: int, in_8_bits: bool) -> int:
    """Keys and values of each block, and the last one's output, of so many tokens in so many rows of a batch."""
    network = inside_compiled(model.diffusion_model)
    blocks = len(network.double_blocks) + len(network.single_blocks)
    # As the host decides it; some older ones have no name for it.
    dtype = model.manual_cast_dtype or model.get_dtype()
    bytes_each = 2 * blocks * (1 if in_8_bits else dtype.itemsize) + dtype.itemsize
    return rows * tokens * network.hidden_size * bytes_each


def fits_on_device(model: Any, x: Tensor, nbytes: int) -> bool:
    """Whether so much fits beside what the model needs for its call with `x`."""
    needed = nbytes + model.memory_required(list(x.shape))
    return bool(comfy.model_management.get_free_memory(x.device) + _giving_way(model.current_patcher) > needed)


def _giving_way(patcher: Any) -> int:
    """Weights that the host loads as it goes give way to what needs their room."""
    # Older hosts load nothing so.
    if patcher is None or not hasattr(patcher, "is_dynamic") or not patcher.is_dynamic():
        return 0
    return patcher.loaded_size()


def enlarged(shape: Sequence[int], model: Any, nbytes: int) -> list[int]:
    """The shape of a latent for which the host reserves so much more. It knows no other way to ask for room."""
    *front, width = shape
    reserved = model.memory_required([2 * shape[0], *shape[1:]])
    return [*front, width + math.ceil(width * nbytes / max(reserved, 1))]
