"""The panels of one picture's candidates, decoded for judges and for the user to choose among."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...early_filter.judge import Candidate
from ...early_filter.stored_preview import STORED, Panel, Preview, joined, left_half, right_half
from ..right_panel import QUICK, DiptychLatent, can_decode_right, decode_right
from ..sampling import LatentRow
from . import previews

SAME = 0.01
"""A left half is as it was before sampling when nothing in it differs by more than this share of its largest value.
Rounding differs by less; the colours of what a sampler redraws by more."""


class Panels:
    """Decodes one picture, of which each row of the latent is a tile.

    Of a diptych whose left panel a mask keeps as it was, that one is decoded once for all candidates, and of each only
    the right one. Users who choose see the right one only, so there the left one is never decoded.
    """

    def __init__(self, vae: Any, panel: Panel, rows: Sequence[LatentRow], judged: bool = True) -> None:
        """`judged`: judges look at the candidates, and at what became of the left panel."""
        self._vae, self._rows, self._judged = vae, rows, judged
        self._diptych = panel == "right half"

    @property
    def left(self) -> Tensor:
        """The left panel as it was before sampling, `h w 3`."""
        return joined(self._left_tiles)

    @cached_property
    def _left_tiles(self) -> list[Tensor]:
        # Beside its right panel: it was encoded so.
        diptychs = previews.decode(self._vae, [one.samples for one in self._rows], torch.float32)
        return [left_half(diptych) for diptych in diptychs]

    @cached_property
    def _kept_left(self) -> Tensor | None:
        """What all previews share that keep it."""
        return self.left.to(STORED) if self._judged else None

    def previews(self, candidates: Mapping[int, Sequence[Tensor]]) -> list[Candidate]:
        """Of each seed, given as the latents `1 c h w` of its rows."""
        right_only = {seed: latents for seed, latents in candidates.items() if self._right_is_enough(latents)}
        rest = {seed: latents for seed, latents in candidates.items() if seed not in right_only}
        found = {
            **{seed: Preview(seed, joined(tiles), self._kept_left) for seed, tiles in self._rights(right_only).items()},
            **{seed: self._preview(seed, tiles) for seed, tiles in self._wholes(rest).items()},
        }
        return [found[seed] for seed in candidates]

    def _preview(self, seed: int, tiles: Sequence[Tensor]) -> Preview:
        """Of whole pictures `h w 3`."""
        if not self._diptych:
            return Preview(seed, joined(tiles))
        right, left = (joined([half(tile) for tile in tiles]) for half in (right_half, left_half))
        # A part of a picture holds all of its memory.
        return Preview(seed, right, left) if self._judged else Preview(seed, right.clone())

    def _right_is_enough(self, latents: Sequence[Tensor]) -> bool:
        if not self._diptych or not all(can_decode_right(latent, self._vae) for latent in latents):
            return False
        pairs = zip(self._rows, latents, strict=True)
        return not self._judged or all(_same_left(row.samples, latent) for row, latent in pairs)

    def _rights(self, candidates: Mapping[int, Sequence[Tensor]]) -> dict[int, list[Tensor]]:
        """Of each seed the right panels."""
        known = self._left_tiles if self._judged and candidates else [None] * len(self._rows)
        tiles = [pair for latents in candidates.values() for pair in zip(latents, known, strict=True)]

        def decode(group: Sequence[tuple[Tensor, Tensor | None]]) -> Tensor:
            latents = torch.cat([latent for latent, _ in group])
            lefts = [left for _, left in group if left is not None]
            return decode_right(DiptychLatent(latents, self._vae, torch.stack(lefts) if lefts else None, QUICK))

        return self._by_seed(candidates, previews.in_groups(decode, tiles, STORED))

    def _wholes(self, candidates: Mapping[int, Sequence[Tensor]]) -> dict[int, list[Tensor]]:
        latents = [latent for one in candidates.values() for latent in one]
        return self._by_seed(candidates, previews.decode(self._vae, latents, STORED))

    def _by_seed(self, candidates: Mapping[int, Any], pictures: list[Tensor]) -> dict[int, list[Tensor]]:
        count = len(self._rows)
        return {seed: pictures[count * at : count * (at + 1)] for at, seed in enumerate(candidates)}


def _same_left(before: Tensor, after: Tensor) -> bool:
    """Whether two latents have the same left half; one that holds NaN is like none."""
    was, now = (left_half(latent, -1) for latent in (before, after))
    return was.shape == now.shape and bool((now.to(was) - was).abs().amax() <= SAME * was.abs().amax())
