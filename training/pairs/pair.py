"""What a trainer learns from: pairs of pictures with the instructions that turn one into the other."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

Bucket: TypeAlias = tuple[int, int]
"""Height and width of a panel. Pairs of one bucket can share a batch."""


@dataclass(frozen=True)
class EditPair:
    """A picture, the same picture edited, and what was asked for.

    Attributes:
        id: unique among the pairs that were loaded together, and the same whenever they are loaded again.
        instructions: every one of them describes the whole edit; a trainer draws one.
        task: the kind of edit, where the pairs' owner named it.
        weight: how often it is drawn, compared with other pairs.
    """

    id: str
    instructions: tuple[str, ...]
    task: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("A pair has no id.")
        if not self.instructions or not all(text.strip() for text in self.instructions):
            raise ValueError(f"The pair {self.id!r} has an empty instruction or none.")
        if not (math.isfinite(self.weight) and self.weight > 0.0):
            raise ValueError(f"The weight of the pair {self.id!r} is {self.weight}, expected a number above 0.")


@dataclass(frozen=True, eq=False)
class EditPairs:
    """Pairs to learn from, their pictures read when they are asked for.

    Attributes:
        pairs: to train on.
        held_out: to look at what was learned; never trained on.
        buckets: a pair's id -> the panel that its pictures are fitted into.
        read: a pair's source and edited picture, each `h w 3` in 0..1, of its bucket's size.
        fingerprint: changes when a pair, a picture, a bucket or what is held out does.
    """

    pairs: tuple[EditPair, ...]
    held_out: tuple[EditPair, ...]
    buckets: Mapping[str, Bucket]
    read: Callable[[EditPair], tuple[Tensor, Tensor]]
    fingerprint: str

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ValueError("There is no pair to train on.")
        ids = [pair.id for pair in (*self.pairs, *self.held_out)]
        if len(set(ids)) != len(ids):
            raise ValueError("Two pairs have the same id.")
        if missing := [id for id in ids if id not in self.buckets]:
            raise ValueError(f"No bucket is known for the pair {missing[0]!r}.")

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[EditPair]:
        return iter(self.pairs)

    def __getitem__(self, index: int) -> EditPair:
        return self.pairs[index]

    def bucket(self, pair: EditPair) -> Bucket:
        return self.buckets[pair.id]

    def pictures(self, pair: EditPair) -> tuple[Tensor, Tensor]:
        """Source and edited picture of a pair, `h w 3` float32 in 0..1, both of its bucket's size.

        Raises:
            ValueError: a file that could be read before cannot be read now.
        """
        source, edited = self.read(pair)
        expected = (*self.bucket(pair), 3)
        for name, picture in (("source", source), ("edited picture", edited)):
            if tuple(picture.shape) != expected:
                raise ValueError(f"The {name} of {pair.id!r} is {list(picture.shape)}, expected {list(expected)}.")
        return source, edited
