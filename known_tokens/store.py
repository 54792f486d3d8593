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

    `b` goes over the conditionings of a call, and the pictures of each.
    """

    keys: dict[Block, Tensor] = field(default_factory=dict)
    values: dict[Block, Tensor] = field(default_factory=dict)
    output: Tensor | None = None

    @property
    def nbytes(self) -> int:
        tensors = [*self.keys.values(), *self.values.values(), *([] if self.output is None else [self.output])]
        return sum(tensor.nbytes for tensor in tensors)

    def rows(self, index: int, count: int) -> "KnownTokens":
        """Part `index` of `count` equal ones of the batch; it shares the memory."""

        def part(tensor: Tensor) -> Tensor:
            return tensor.chunk(count)[index]

        return KnownTokens(
            {block: part(tensor) for block, tensor in self.keys.items()},
            {block: part(tensor) for block, tensor in self.values.items()},
            None if self.output is None else part(self.output),
        )


class KnownStore:
    """What a sampling run keeps, by conditioning: the host batches them as memory allows, not always alike."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Hashable, ...], KnownTokens] = {}

    def clear(self) -> None:
        self._kept.clear()

    @property
    def nbytes(self) -> int:
        return sum(kept.nbytes for kept in self._kept.values())

    def to_fill(self, conds: Sequence[Hashable]) -> KnownTokens:
        """For a full call of these conditionings. What is kept already is replaced block by block, so that there is
        never twice as much."""
        wanted = tuple(conds)
        overlapping = [batch for batch in self._kept if set(batch) & set(wanted) and batch != wanted]
        for batch in overlapping:
            del self._kept[batch]
        return self._kept.get(wanted) or KnownTokens()

    def keep(self, conds: Sequence[Hashable], tokens: KnownTokens) -> None:
        self._kept[tuple(conds)] = tokens

    def of(self, conds: Sequence[Hashable]) -> KnownTokens | None:
        """What is kept of these conditionings, in this order; None where one is missing."""
        if (kept := self._kept.get(tuple(conds))) is not None:
            return kept
        parts = [self._part(cond) for cond in conds]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            return None
        outputs = [part.output for part in found if part.output is not None]
        blocks = found[0].keys
        return KnownTokens(
            {block: torch.cat([part.keys[block] for part in found]) for block in blocks},
            {block: torch.cat([part.values[block] for part in found]) for block in blocks},
            torch.cat(outputs) if outputs else None,
        )

    def _part(self, cond: Hashable) -> KnownTokens | None:
        for batch, kept in self._kept.items():
            if cond in batch:
                return kept.rows(batch.index(cond), len(batch))
        return None
