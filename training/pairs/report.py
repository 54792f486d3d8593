"""What the owner of the pairs should know about them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .buckets import kept_share
from .listing import LISTED, ListedPair, PairProblem, described
from .pair import Bucket, EditPairs

CUT = 0.9
"""Of a picture that keeps less than this, its owner is told."""
SMALL = 0.8
"""Of a panel's pixels: smaller pictures are mentioned."""


@dataclass(frozen=True)
class SeenPair:
    """A pair whose pictures have been opened."""

    row: ListedPair
    bucket: Bucket
    size: tuple[int, int]
    hashes: tuple[str, str]


def loaded_report(pairs: EditPairs, seen: list[SeenPair], notes: Sequence[str], problems: Sequence[PairProblem]) -> str:
    """What was read, on which panels, and what was left out and why."""
    texts = sum(len(one.row.instructions) for one in seen)
    trained = len(seen) - len(pairs.held_out)
    lines = [f"{trained} pairs to train on, {len(pairs.held_out)} held out, {texts} instructions"]
    counts = Counter(one.bucket for one in seen).most_common()
    lines.append("panels: " + ", ".join(f"{width} x {height} ({count})" for (height, width), count in counts))
    tasks = Counter(one.row.task for one in seen if one.row.task).most_common()
    if tasks:
        lines.append("kinds of edit: " + ", ".join(f"{task} ({count})" for task, count in tasks))
    lines += [*notes, *_remarks(seen)]
    if problems:
        lines.append(f"left out, {len(problems)} pairs:\n{described(problems)}")
    return "\n".join(lines)


def _remarks(seen: list[SeenPair]) -> list[str]:
    small = [one.row.id for one in seen if one.size[0] * one.size[1] < SMALL * one.bucket[0] * one.bucket[1]]
    cut = [one.row.id for one in seen if kept_share(*one.size, one.bucket) < CUT]
    said = (
        (small, "smaller than their panel, and scaled up"),
        (cut, "so long that more than a tenth is cut off"),
    )
    return [f"{len(ids)} pairs are {what}: {', '.join(ids[:LISTED])}" for ids, what in said if ids]
