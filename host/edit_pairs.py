"""Pairs to train on from the host's input folder."""

import hashlib
from pathlib import Path

import comfy.utils
from torch import Tensor

from ..diptych.reading import read_picture, read_size
from ..training.pairs.listing import PairListing, PictureFile
from ..training.pairs.load import LoadedPairs, PairSettings, load_pairs
from ..training.pairs.sources import read_listing
from . import files
from .interrupts import poll


class EditPictureReader:
    """Pictures as an edit reads them: upright, in sRGB, transparency laid over white."""

    def size(self, name: str, content: bytes) -> tuple[int, int]:
        size = read_size(name, content)
        return size.height, size.width

    def picture(self, name: str, content: bytes) -> Tensor:
        return read_picture(name, content=content).image[0]


def load(sources: str, edited: str, instruction: str, settings: PairSettings) -> LoadedPairs:
    """The pairs in the host's folders, with progress; an interrupt stops it.

    Raises:
        ValueError: a name leads elsewhere or to nothing, or pairs cannot be used.
    """
    listing = _listing(sources, edited, instruction)
    bar = comfy.utils.ProgressBar(max(1, len(listing.rows)))

    def step(done: int, total: int) -> None:
        poll()
        bar.update_absolute(done, total)

    return load_pairs(listing, EditPictureReader(), settings, step)


def fingerprint(sources: str, edited: str, instruction: str) -> str:
    """Changes when a file of the pairs does, without opening a picture."""
    listing = _listing(sources, edited, instruction)
    parts: list[object] = [listing.problems]
    for row in listing.rows:
        parts.append((row.id, row.instructions, row.task, row.weight))
        parts += [_version(stored.path) for stored in (row.source, row.edited) if isinstance(stored, PictureFile)]
    if edited == "":
        path = files.input_path(sources, "sources")
        parts += [_version(file) for file in (path, *(sorted(path.iterdir()) if path.is_dir() else ()))]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _listing(sources: str, edited: str, instruction: str) -> PairListing:
    after = None if edited == "" else files.input_path(edited, "edited")
    return read_listing(
        files.input_path(sources, "sources"), after, within=files.containing_folder(sources), instruction=instruction
    )


def _version(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size
