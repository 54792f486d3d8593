"""Reading and replacing the attention values V of FLUX's blocks, for the time of a model call.

What a call needs is in its transformer options, and what a sampling run needs in the run's: nothing is put on the
model, so nothing has to be taken off, and calls in several threads do not meet.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import comfy
import comfy.model_management
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...inversion.values import Block, TokenGrid

INVERSION_KEY = "icedit_inversion"
PATCH = "attn1_patch"

Options = dict[str, Any]
RestOfCall = Callable[[Options], Tensor]
"""The rest of a model call, with these transformer options."""


def wrap_calls(model_options: Options, wrapper: Callable[..., Tensor]) -> None:
    """Put an APPLY_MODEL wrapper around the model calls of one sampling run, in place of an earlier one of ours.

    The host copies the options for each run, so the wrapper ends with the run and no other run meets it; the threads
    of several GPUs share it.
    """
    wrappers = model_options["transformer_options"].setdefault("wrappers", {})
    wrappers.setdefault(WrappersMP.APPLY_MODEL, {})[INVERSION_KEY] = [wrapper]


def apply_model_wrapper(method: Callable[[Any, RestOfCall, Tensor, float, Options], Tensor]) -> Callable[..., Tensor]:
    """Make an APPLY_MODEL wrapper of a method that takes the rest of the call, x, sigma and transformer options."""

    @wraps(method)
    def wrapper(
        self: Any,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: Options | None = None,
        **kwargs: Any,
    ) -> Tensor:
        def call(options: Options) -> Tensor:
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

        return method(self, call, x, float(t[0]), transformer_options or {})

    return wrapper


@dataclass(frozen=True, eq=False)
class Reading:
    """The values of one picture that a call saw, `heads rows panel d` by block. Without `keep` they are not copied, and
    `found` holds None for each."""

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
    """Let the host drop old results, other inversions among them, if there is no free RAM for this many bytes."""
    # Older hosts have nothing of the kind.
    memory: Any = getattr(comfy, "memory_management", None)
    if nbytes and hasattr(memory, "extra_ram_release"):
        memory.extra_ram_release(nbytes + memory.RAM_CACHE_HEADROOM)
