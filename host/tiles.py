"""Latents that hold the tiles of panoramas: which of their rows are one picture.

Equal `batch_index` values do not say it: the host's nodes give them to different pictures too, to sample these from the
same noise. So the latent carries a key of its own, which samplers and most latent nodes hand on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

TILES_KEY = "icedit_tiles"


def mark(latent: dict[str, Any], noise_rows: Sequence[int]) -> None:
    """Note in a latent that rows with the same number are tiles of one picture; the same number of each."""
    latent[TILES_KEY] = len(noise_rows) // len(set(noise_rows))


def pictures(latent: Mapping[str, Any]) -> list[range]:
    """The rows of each picture, in order. What was taken from one picture's tiles is a picture too.

    Raises:
        ValueError: the latent holds a part of the tiles of several pictures.
    """
    rows = len(latent["samples"])
    tiles = min(latent.get(TILES_KEY, 1), rows)
    if rows % tiles:
        raise ValueError(
            f"latent_image holds {rows} tiles of pictures that have {tiles} each, so some are missing and others "
            "cannot be told apart. Connect the whole latent of Diptych Conditioning, or the tiles of one picture."
        )
    return [range(first, first + tiles) for first in range(0, rows, tiles)]
