"""What is kept of known tokens between a full model call and the short ones after it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Block = tuple[str, int]
"""A transformer block by kind ("double" or "single") and number within its kind."""


@dataclass(eq=False)
class KnownTokens:
    """Of known tokens: keys (with position) and values `b heads n d` by block, and the last one's output `b n d`.

    `b` goes over the conditionings of a call, and the pictures of each. `in_ram` keeps them off the device.
    """

    in_ram: bool = False
    keys: dict[Block, Tensor] = field(default_factory=dict)
    values: dict[Block, Tensor] = field(default_factory=dict)
    output: Tensor | None = None

    @property
    def nbytes(self) -> int:
        tensors = [*self.keys.values(), *self.values.values(), *([] if self.output is None else [self.output])]
        return sum(tensor.nbytes for tensor in tensors)

    def put(self, block: Block, keys: Tensor, values: Tensor) -> None:
        """Replaces what is there, block by block, so that there is never twice as much."""
        self.keys[block] = self._held(keys, self.keys.get(block))
        self.values[block] = self._held(values, self.values.get(block))

    def at(self, block: Block, device: torch.device) -> tuple[Tensor, Tensor]:
        """Keys and values of a block on the device, where those in RAM go without waiting for it."""
        return self.keys[block].to(device, non_blocking=True), self.values[block].to(device, non_blocking=True)

    def put_output(self, output: Tensor) -> None:
        self.output = self._held(output, self.output)

    def output_at(self, device: torch.device) -> Tensor:
        assert self.output is not None
        return self.output.to(device, non_blocking=True)

    def _held(self, tensor: Tensor, before: Tensor | None) -> Tensor:
        if not self.in_ram or tensor.device.type == "cpu":
            return tensor
        if before is None or before.shape != tensor.shape:
            before = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda)
        return before.copy_(tensor, non_blocking=True)

    def rows(self, index: int, count: int) -> "KnownTokens":
        """Part `index` of `count` equal ones of the batch; it shares the memory."""

        def part(tensor: Tensor) -> Tensor:
            return tensor.chunk(count)[index]

        return KnownTokens(
            self.in_ram,
            {block: part(tensor) for block, tensor in self.keys.items()},
            {block: part(tensor) for block, tensor in self.values.items()},
            None if self.output is None else part(self.output),
        )


class KnownStore:
    """What a sampling run keeps, by conditioning: the host batches them as memory allows, not always alike.

    Several threads fill it, each its own conditionings.
    """

    def __init__(self) -> None:
        self.in_ram = False
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
        return self._kept.get(wanted) or KnownTokens(self.in_ram)

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
        return kept if kept is not None and kept.output is not None and kept.output.shape[1] == tokens else None

    def _part(self, cond: Hashable) -> KnownTokens | None:
        for batch, kept in list(self._kept.items()):
            if cond in batch:
                return kept.rows(batch.index(cond), len(batch))
        return None


def joined(parts: Sequence[KnownTokens]) -> KnownTokens | None:
    """Conditionings that were kept apart as one batch; None where they do not fit together."""
    if len({part.output.shape for part in parts if part.output is not None}) != 1:
        return None
    device = parts[0].output.device if parts[0].output is not None else None

    def together(tensors: Sequence[Tensor | None]) -> Tensor:
        return torch.cat([tensor.to(device) for tensor in tensors if tensor is not None])

    return KnownTokens(
        parts[0].in_ram,
        {block: together([part.keys[block] for part in parts]) for block in parts[0].keys},
        {block: together([part.values[block] for part in parts]) for block in parts[0].values},
        together([part.output for part in parts]),
    )
