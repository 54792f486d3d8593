"""Reading and replacing the attention values V of FLUX's blocks, for the time of a model call.

What a call needs travels in its transformer options: nothing is put on the model, so nothing has to be taken off, and
calls in several threads do not meet.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import comfy
import comfy.model_management
import torch
from torch import Tensor

from ...inversion.values import Block, TokenGrid

INVERSION_KEY = "icedit_inversion"
PATCH = "attn1_patch"

Options = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Reading:
    """Values of one picture, `heads rows panel d` by block, as a call leaves them here. Without `keep` no value is
    copied, and None stands for each that could have been."""

    grid: TokenGrid
    blocks: Mapping[Block, int]
    keep: bool
    found: dict[Block, Tensor | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Writing:
    """Values to put in: for each row of the batch `blocks heads rows panel d`."""

    grid: TokenGrid
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
    return {**options, INVERSION_KEY: data, "patches": {**patches, PATCH: [*patches.get(PATCH, ()), patch]}}


def _read(q: Tensor, k: Tensor, v: Tensor, extra_options: Options, **_: Any) -> Options:  # noqa: ARG001
    reading, block = extra_options[INVERSION_KEY], _block(extra_options)
    if block in reading.blocks:
        panel = reading.grid.take(v, extra_options["img_slice"][0])[0]
        reading.found[block] = panel.clone() if reading.keep else None
    return {}


def _write(q: Tensor, k: Tensor, v: Tensor, extra_options: Options, **_: Any) -> Options:  # noqa: ARG001
    writing, block = extra_options[INVERSION_KEY], _block(extra_options)
    if block not in writing.blocks:
        return {}
    index = writing.blocks[block]
    panels = [values[index] for values in writing.rows]
    return {"v": writing.grid.put(v, extra_options["img_slice"][0], panels)}


def _block(extra_options: Options) -> Block:
    return extra_options["block_type"], extra_options["block_index"]


def uncompiled() -> AbstractContextManager[Any]:
    """Runs what torch.compile compiled as it was written. The host's TorchCompileModel tells torch not to look at
    transformer options, so code compiled without patches, or with others, would go on without ours.

    For a whole run, not a call: it holds for all threads. Before torch 2.6 there is no such thing, and reading says
    that there are no values.
    """
    set_stance = getattr(torch.compiler, "set_stance", None)
    return set_stance("force_eager") if set_stance else nullcontext()


def hold_in_ram(tensors: Sequence[Tensor]) -> Tensor:
    """Stacked in ordinary RAM, `(n) ...`.

    Not pinned: as long as a result is cached, the host could not take such memory back from it for its own weights.
    """
    first = tensors[0]
    held = torch.empty((len(tensors), *first.shape), dtype=first.dtype, device="cpu")
    for slot, tensor in zip(held, tensors, strict=True):
        slot.copy_(tensor)
    return held


def make_room(nbytes: int) -> None:
    """Lets the host drop old results, other inversions among them, where RAM for so many bytes more is not free."""
    # Older hosts have nothing of the kind.
    memory: Any = getattr(comfy, "memory_management", None)
    if nbytes and hasattr(memory, "extra_ram_release"):
        memory.extra_ram_release(nbytes + memory.RAM_CACHE_HEADROOM)
