"""Which pairs are only looked at: none whose picture is trained on with another edit."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from .report import SeenPair

AUTOMATIC = -1
MOST, SHARE = 8, 0.1


def held_out_ids(seen: Sequence[SeenPair], count: int) -> set[str]:
    """Ids of `count` pairs, or of fewer where those that share a picture are too many to go together.

    Pairs are chosen by their names alone, so that most stay the same when pairs are added. When all share a picture,
    they are chosen one by one.

    Args:
        count: AUTOMATIC takes a tenth, at most `MOST`.

    Raises:
        ValueError: none would be left to train on.
    """
    if count == AUTOMATIC:
        count = min(MOST, int(len(seen) * SHARE))
    if count >= len(seen):
        raise ValueError(f"held_out is {count}, but there are {len(seen)} pairs: none would be left to train on.")
    groups = sorted(_sharing_a_picture(seen), key=lambda ids: min(map(_order, ids)))
    chosen: set[str] = set()
    for ids in groups:
        if len(chosen) + len(ids) <= count:
            chosen.update(ids)
    return chosen or set(sorted((one.row.id for one in seen), key=_order)[:count])


def shared_with_training(seen: Sequence[SeenPair], out: set[str]) -> bool:
    """Whether a held-out pair's picture is trained on with another edit."""
    return any(out & ids and ids - out for ids in map(set, _sharing_a_picture(seen)))


def _order(id: str) -> bytes:
    return hashlib.sha256(id.encode()).digest()


def _sharing_a_picture(seen: Sequence[SeenPair]) -> list[list[str]]:
    """The pairs' ids in groups: several edits of a picture, or several turns of which each begins with the last."""
    joined_to: dict[str, str] = {}

    def first_of(picture: str) -> str:
        while (next_one := joined_to.setdefault(picture, picture)) != picture:
            joined_to[picture] = picture = joined_to[next_one]
        return picture

    for one in seen:
        source, edited = map(first_of, one.hashes)
        joined_to[edited] = source
    groups: dict[str, list[str]] = defaultdict(list)
    for one in seen:
        groups[first_of(one.hashes[0])].append(one.row.id)
    return list(groups.values())
