"""Pairs of pictures on disk, and reading them without a running host."""

import io
from pathlib import Path

import numpy as np
from icedit.host.edit_pairs import EditPictureReader
from icedit.training.pairs.load import PairSettings, load_pairs
from icedit.training.pairs.sources import read_listing
from PIL import Image, ImageOps


def write_pairs(folder: Path, count: int = 4, instruction: str = "make it red\ncolour it red") -> tuple[Path, Path]:
    """The folders `before` and `after` with noise of 64 x 64 pixels, and a text beside each edited picture."""
    for place, strength in (("before", 40), ("after", 80)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            noise = Image.effect_noise((64, 64), strength + number).convert("RGB")
            noise.save(folder / place / f"{number}.png")
    for number in range(count):
        (folder / "after" / f"{number}.txt").write_text(instruction)
    return folder / "before", folder / "after"


def picture(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png(seed: int, width: int = 64, height: int = 64) -> bytes:
    file = io.BytesIO()
    picture(seed, width, height).save(file, "PNG")
    return file.getvalue()


def load(sources, edited=None, within=None, instruction="", **settings):
    listing = read_listing(sources, edited, within, instruction)
    return load_pairs(listing, EditPictureReader(), PairSettings(**{"panel_size": 64, **settings}))


def every(pairs):
    return sorted((*pairs.pairs, *pairs.held_out), key=lambda pair: pair.id)


def inverted_png(seed: int) -> bytes:
    """The picture of that seed with 255 minus each value."""
    file = io.BytesIO()
    ImageOps.invert(picture(seed)).save(file, "PNG")
    return file.getvalue()
