"""What is kept of known tokens between a full model call and the short ones after it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

Block = tuple[str, int]
"""A transformer block by kind ("double" or "single") and number within its kind."""

LARGEST = 127
"""Of a signed integer of 8 bits."""


@dataclass(frozen=True)
class Keeping:
    """How tokens are kept: off the device, and their keys and values in 8 bits.

    These are integers with a scale for each token and head: fp8 (e4m3) takes the same room, and its three bits after
    the point are coarser. The mini models lost 1.5 dB by it, and nothing by integers.
    """

    in_ram: bool = False
    in_8_bits: bool = False


@dataclass(frozen=True, eq=False)
class Held:
    """A tensor as it is kept; `scale` brings one in 8 bits back to its size."""

    data: Tensor
    scale: Tensor | None = None

    @classmethod
    def of(cls, tensor: Tensor, keeping: Keeping, before: "Held | None") -> "Held":
        """In RAM it takes the memory of what was there before, where it fits."""
        held = cls._in_8_bits(tensor) if keeping.in_8_bits else cls(tensor)
        if not keeping.in_ram or tensor.device.type == "cpu":
            return held
        there = None if before is None or before.data.shape != held.data.shape else before.data
        if there is None:
            there = torch.empty(held.data.shape, dtype=held.data.dtype, device="cpu", pin_memory=tensor.is_cuda)
        return cls(there.copy_(held.data, non_blocking=True), held.scale)

    @classmethod
    def _in_8_bits(cls, tensor: Tensor) -> "Held":
        scale = tensor.abs().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(tensor.dtype).tiny) / LARGEST
        return cls((tensor / scale).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale)

    def on(self, device: torch.device) -> Tensor:
        """On the device; what lies in RAM goes there without waiting for it."""
        data = self.data.to(device, non_blocking=True)
        return data if self.scale is None else data.to(self.scale.dtype) * self.scale.to(device)

    def part(self, index: int, count: int) -> "Held":
        """Part `index` of `count` equal ones of the batch; it shares the memory."""
        return Held(self.data.chunk(count)[index], None if self.scale is None else self.scale.chunk(count)[index])

    @staticmethod
    def together(parts: Sequence["Held"]) -> "Held":
        """The parts as one batch, on the device of the first one."""
        device = parts[0].data.device
        scales = [part.scale.to(device) for part in parts if part.scale is not None]
        return Held(torch.cat([part.data.to(device) for part in parts]), torch.cat(scales) if scales else None)


@dataclass(eq=False)
class KnownTokens:
    """Of known tokens: keys (with position) and values `b heads n d` by block, and the last one's output `b n d`.

    `b` goes over the conditionings of a call, and the pictures of each.
    """

    keeping: Keeping = Keeping()
    keys: dict[Block, Held] = field(default_factory=dict)
    values: dict[Block, Held] = field(default_factory=dict)
    output: Held | None = None

    @property
    def nbytes(self) -> int:
        outputs = [] if self.output is None else [self.output]
        return sum(held.data.nbytes for held in (*self.keys.values(), *self.values.values(), *outputs))

    def put(self, block: Block, keys: Tensor, values: Tensor) -> None:
        """Replaces what is there, block by block, so that there is never twice as much."""
        self.keys[block] = Held.of(keys, self.keeping, self.keys.get(block))
        self.values[block] = Held.of(values, self.keeping, self.values.get(block))

    def at(self, block: Block, device: torch.device) -> tuple[Tensor, Tensor]:
        """Keys and values of a block."""
        return self.keys[block].on(device), self.values[block].on(device)

    def put_output(self, output: Tensor) -> None:
        # Of hidden states few numbers are by far the largest, which leaves the others no bits.
        self.output = Held.of(output, replace(self.keeping, in_8_bits=False), self.output)

    def output_at(self, device: torch.device) -> Tensor:
        assert self.output is not None
        return self.output.on(device)

    def rows(self, index: int, count: int) -> "KnownTokens":
        """Part `index` of `count` equal ones of the batch."""
        return KnownTokens(
            self.keeping,
            {block: held.part(index, count) for block, held in self.keys.items()},
            {block: held.part(index, count) for block, held in self.values.items()},
            None if self.output is None else self.output.part(index, count),
        )


class KnownStore:
    """What a sampling run keeps, by conditioning: the host batches them as memory allows, not always alike.

    Several threads fill it, each its own conditionings.
    """

    def __init__(self) -> None:
        self.keeping = Keeping()
        self._kept: dict[tuple[Hashable, ...], KnownTokens] = {}

    def clear(self) -> None:
        self._kept.clear()

    @property
    def nbytes(self) -> int:
        return sum(kept.nbytes for kept in list(self._kept.values()))

    def to_fill(self, conds: Sequence[Hashable]) -> KnownTokens:
        """For a full call of these conditionings."""
        wanted = tuple(conds)
        for batch in [batch for batch in list(self._kept) if batch != wanted and set(batch) & set(wanted)]:
            del self._kept[batch]
        return self._kept.get(wanted) or KnownTokens(self.keeping)

    def keep(self, conds: Sequence[Hashable], tokens: KnownTokens) -> None:
        self._kept[tuple(conds)] = tokens

    def drop(self, conds: Sequence[Hashable]) -> None:
        self._kept.pop(tuple(conds), None)

    def of(self, conds: Sequence[Hashable], tokens: int) -> KnownTokens | None:
        """What is kept of these conditionings, in this order; None where one is missing or holds other tokens."""
        kept = self._kept.get(tuple(conds))
        if kept is None:
            parts = [part for cond in conds if (part := self._part(cond)) is not None]
            kept = joined(parts) if len(parts) == len(conds) else None
        return kept if kept is not None and kept.output is not None and kept.output.data.shape[1] == tokens else None

    def _part(self, cond: Hashable) -> KnownTokens | None:
        for batch, kept in list(self._kept.items()):
            if cond in batch:
                return kept.rows(batch.index(cond), len(batch))
        return None


def joined(parts: Sequence[KnownTokens]) -> KnownTokens | None:
    """Conditionings that were kept apart as one batch; None where they do not fit together."""
    outputs = [part.output for part in parts if part.output is not None]
    if len({output.data.shape for output in outputs}) != 1:
        return None
    return KnownTokens(
        parts[0].keeping,
        {block: Held.together([part.keys[block] for part in parts]) for block in parts[0].keys},
        {block: Held.together([part.values[block] for part in parts]) for block in parts[0].values},
        Held.together(outputs),
    )
