"""Reading and replacing the attention values V of FLUX's blocks, for the time of a model call.

What a call needs travels in its transformer options: nothing is put on the model, so nothing has to be taken off, and
calls in several threads do not meet. The patch functions are the same objects for ever, because torch.compile would
compile anew for others.
"""

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ..inversion.values import Block, Grid

KEY = "icedit_inversion"
PATCH = "attn1_patch"

Options = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Reading:
    """Values of one picture, `heads rows panel d` by block, as a call leaves them here."""

    grid: Grid
    blocks: Mapping[Block, int]
    found: dict[Block, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Writing:
    """Values to put in: for each row of the batch `blocks heads rows panel d`."""

    grid: Grid
    blocks: Mapping[Block, int]
    rows: Sequence[Tensor]


def reading_options(options: Options, reading: Reading) -> Options:
    """Transformer options with which a model call fills `reading`."""
    return _with_patch(options, _read, reading)


def writing_options(options: Options, writing: Writing) -> Options:
    """Transformer options with which a model call uses the values of `writing`."""
    return _with_patch(options, _write, writing)


def _with_patch(options: Options, patch: Any, data: Reading | Writing) -> Options:
    patches = options.get("patches", {})
    return {**options, KEY: data, "patches": {**patches, PATCH: [*patches.get(PATCH, ()), patch]}}


def _read(q: Tensor, k: Tensor, v: Tensor, extra_options: Options, **_: Any) -> Options:  # noqa: ARG001
    reading, block = extra_options[KEY], _block(extra_options)
    if block in reading.blocks:
        reading.found[block] = reading.grid.take(v, extra_options["img_slice"][0])[0].clone()
    return {}


def _write(q: Tensor, k: Tensor, v: Tensor, extra_options: Options, **_: Any) -> Options:  # noqa: ARG001
    writing, block = extra_options[KEY], _block(extra_options)
    if block not in writing.blocks:
        return {}
    index = writing.blocks[block]
    panels = [values[index] for values in writing.rows]
    return {"v": writing.grid.put(v, extra_options["img_slice"][0], panels)}


def _block(extra_options: Options) -> Block:
    return extra_options["block_type"], extra_options["block_index"]


def hold_in_ram(tensors: Sequence[Tensor]) -> Tensor:
    """Stacked on the CPU, in pinned memory where the host has room for it: copies to the GPU then wait for nothing."""
    first = tensors[0]
    held = torch.empty((len(tensors), *first.shape), dtype=first.dtype, device="cpu")
    for slot, tensor in zip(held, tensors, strict=True):
        slot.copy_(tensor)
    if comfy.model_management.pin_memory(held):
        # The host registers memory that others own, and wants to be told before it goes. A view keeps it until then.
        weakref.finalize(held, comfy.model_management.unpin_memory, held.detach()).atexit = False
    return held
