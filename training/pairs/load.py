"""From a list of pairs to pairs to learn from: pictures are all looked at once, and read again when asked for."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .buckets import SNAP, bucket_of, fitted
from .crops import WHOLE, Crop
from .held_out import AUTOMATIC, held_out_ids, shared_with_training
from .listing import ListedPair, PairListing, PairProblem, ProblemKind, Stored, described
from .pair import EditPair, EditPairs
from .report import SeenPair, loaded_report

STOP, SKIP = "stop", "skip"
DISAGREE = 0.02
"""Proportions that differ by more than this: the edited picture would not lie on its source any more."""
THREADS = 4


class PictureReader(Protocol):
    """What opens picture files. The name is for messages."""

    def size(self, name: str, content: bytes) -> tuple[int, int]:
        """Height and width of a picture as it is shown, after all of it has been read once.

        Raises:
            ValueError: it cannot be read.
        """
        ...

    def picture(self, name: str, content: bytes) -> Tensor:
        """The picture, `h w 3` float32 in 0..1.

        Raises:
            ValueError: it cannot be read.
        """
        ...


@dataclass(frozen=True)
class PairSettings:
    """What the user set.

    Attributes:
        panel_size: the side of a square panel; others get about its area.
        held_out: pairs that are not trained on; AUTOMATIC takes a tenth, at most 8.
        on_problems: what to do about pairs that cannot be used.
        crops: random crops of each pair that are learned beside it.
    """

    panel_size: int = 512
    held_out: int = AUTOMATIC
    on_problems: str = STOP
    crops: int = 0

    def __post_init__(self) -> None:
        if self.panel_size < SNAP:
            raise ValueError(f"panel_size is {self.panel_size}, expected at least {SNAP}.")
        if self.held_out < AUTOMATIC:
            raise ValueError(f"held_out is {self.held_out}, expected a number of pairs, or -1 for a tenth of them.")
        if self.crops < 0:
            raise ValueError(f"crops is {self.crops}, expected 0 or more.")
        if self.on_problems not in (STOP, SKIP):
            raise ValueError(f"on_problems is {self.on_problems!r}, expected {STOP} or {SKIP}.")


@dataclass(frozen=True)
class LoadedPairs:
    """Pairs to learn from, and what their owner should know."""

    pairs: EditPairs
    report: str


def load_pairs(
    listing: PairListing,
    reader: PictureReader,
    settings: PairSettings,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> LoadedPairs:
    """Open all pictures, and sort the pairs.

    Raises:
        ValueError: pairs cannot be used and the settings say stop, or none is left; all that is wrong is in it.
    """
    seen, problems = _opened(listing.rows, reader, settings.panel_size, on_progress)
    seen, twice = _unique(seen)
    problems = [*listing.problems, *problems, *twice]
    total = len(seen) + len(problems)
    if problems and (settings.on_problems == STOP or not seen):
        way_out = "set on_problems to skip to train without them" if seen else "check where the pairs are"
        raise ValueError(
            f"{len(problems)} of {total} pairs cannot be used:\n{described(problems)}\nCorrect them, or {way_out}."
        )
    if not seen:
        raise ValueError("There is no pair in the list.")
    pairs = _edit_pairs(seen, reader, settings)
    notes = list(listing.notes)
    if settings.crops:
        notes.append(f"each of them also in {settings.crops} random crops")
    if shared_with_training(seen, {pair.id for pair in pairs.held_out}):
        notes.append(
            "Held-out pairs show pictures that are trained on with other edits: all pairs share their pictures."
        )
    return LoadedPairs(pairs, loaded_report(pairs, seen, notes, problems))


def _opened(
    rows: Sequence[ListedPair], reader: PictureReader, panel_size: int, on_progress: Callable[[int, int], None]
) -> tuple[list[SeenPair], list[PairProblem]]:
    seen, problems = [], []
    pool = ThreadPoolExecutor(THREADS)
    try:
        for done, found in enumerate(pool.map(lambda row: _open(row, reader, panel_size), rows), start=1):
            (problems if isinstance(found, PairProblem) else seen).append(found)
            on_progress(done, len(rows))
    finally:
        # An interrupt must not wait for all the others.
        pool.shutdown(cancel_futures=True)
    return seen, problems


def _open(row: ListedPair, reader: PictureReader, panel_size: int) -> SeenPair | PairProblem:
    try:
        (source, source_hash), (edited, edited_hash) = (_look(stored, reader) for stored in (row.source, row.edited))
    except (ValueError, OSError) as error:
        return PairProblem(ProblemKind.UNREADABLE, row.id, str(error))
    if abs(math.log(source[0] * edited[1] / (source[1] * edited[0]))) > DISAGREE:
        sizes = " and ".join(f"{width} x {height}" for height, width in (source, edited))
        return PairProblem(ProblemKind.SIZES, row.id, sizes)
    if source_hash == edited_hash:
        return PairProblem(ProblemKind.SAME_PICTURE, row.id)
    return SeenPair(row, bucket_of(*source, panel_size), source, (source_hash, edited_hash))


def _look(stored: Stored, reader: PictureReader) -> tuple[tuple[int, int], str]:
    content = stored.content()
    return reader.size(stored.name, content), hashlib.sha256(content).hexdigest()


def _unique(seen: list[SeenPair]) -> tuple[list[SeenPair], list[PairProblem]]:
    first: dict[object, str] = {}
    kept, problems = [], []
    for one in seen:
        key = (one.hashes, one.row.instructions)
        if key in first:
            problems.append(PairProblem(ProblemKind.TWICE, one.row.id, f"the same as {first[key]}"))
        else:
            first[key] = one.row.id
            kept.append(one)
    return kept, problems


def _edit_pairs(seen: list[SeenPair], reader: PictureReader, settings: PairSettings) -> EditPairs:
    out = held_out_ids(seen, settings.held_out)
    trained: list[EditPair] = []
    held_out: list[EditPair] = []
    shown: dict[str, tuple[SeenPair, Crop]] = {}
    for one in seen:
        crops = 0 if one.row.id in out else settings.crops
        pairs = list(_with_crops(one.row, crops))
        shown |= {pair.id: (one, crop) for pair, crop in pairs}
        (held_out if one.row.id in out else trained).extend(pair for pair, _ in pairs)

    def read(pair: EditPair) -> tuple[Tensor, Tensor]:
        one, crop = shown[pair.id]
        pictures = (_picture(stored, reader) for stored in (one.row.source, one.row.edited))
        source, edited = (fitted(crop.of(picture), one.bucket) for picture in pictures)
        return source, edited

    return EditPairs(
        pairs=tuple(trained),
        held_out=tuple(held_out),
        buckets={id: one.bucket for id, (one, _) in shown.items()},
        read=read,
        fingerprint=_fingerprint(seen, out, settings.crops),
    )


def _with_crops(row: ListedPair, crops: int) -> Iterator[tuple[EditPair, Crop]]:
    """A pair and so many crops of it, which together are drawn as often as it alone would be."""
    weight = row.weight / (1 + crops)
    yield EditPair(row.id, row.instructions, row.task, weight), WHOLE
    for number in range(1, crops + 1):
        yield EditPair(f"{row.id} [crop {number}]", row.instructions, row.task, weight), Crop.random(row.id, number)


def _picture(stored: Stored, reader: PictureReader) -> Tensor:
    try:
        return reader.picture(stored.name, stored.content())
    except OSError as error:
        raise ValueError(f"The picture {stored.name!r} cannot be read any more: {error.strerror or error}.") from error


def _fingerprint(seen: list[SeenPair], out: set[str], crops: int) -> str:
    digest = hashlib.sha256(f"{crops} crops".encode() if crops else b"")
    for one in seen:
        row = one.row
        facts = (row.id, row.instructions, row.task, row.weight, one.bucket, one.hashes, row.id in out)
        digest.update(repr(facts).encode())
    return digest.hexdigest()
