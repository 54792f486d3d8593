"""Which rows of a latent are the tiles of one picture.

A sampler's layout says it. Where none is connected, as in graphs of before samplers took one, the latent of Diptych
Conditioning says it by a key of its own, which samplers and most latent nodes hand on: equal `batch_index` values would
not do, as the host's nodes give them to different pictures too, to sample these from the same noise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

TILES_KEY = "icedit_tiles"


def mark(latent: dict[str, Any], noise_rows: Sequence[int]) -> None:
    """Note in a latent that rows with the same number are tiles of one picture; the same number of each."""
    latent[TILES_KEY] = len(noise_rows) // len(set(noise_rows))


def picture_rows(latent: Mapping[str, Any], tiles: int | None = None) -> list[range]:
    """The rows of each picture, in order. What was taken from one picture's tiles is a picture too.

    Args:
        tiles: how many each picture has; None takes what the latent says.

    Raises:
        ValueError: the latent holds a part of the tiles of several pictures.
    """
    rows = len(latent["samples"])
    count = min(latent.get(TILES_KEY, 1) if tiles is None else tiles, rows)
    if rows % count:
        raise ValueError(
            f"latent_image holds {rows} tiles of pictures that have {count} each, so some are missing and others "
            "cannot be told apart. Connect the whole latent of Diptych Conditioning, or the tiles of one picture."
        )
    return [range(first, first + count) for first in range(0, rows, count)]
