"""The contact sheet: every candidate's latest preview with its rank, seed, score and the step at which it left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .run import Outcome

TILE = 320
"""Longer side of a preview on the sheet, in pixels."""

BORDER, LINES = 4, 3
BACKGROUND, TEXT, WINNER = (24, 24, 24), (230, 230, 230), (80, 200, 120)


@dataclass(frozen=True)
class SheetGrid:
    """Where the candidates are on a sheet, row by row; sizes in pixels.

    Attributes:
        tile: height and width of a preview.
        line: height of a line of text.
        cell: width and height of a preview with its frame and lines.
        captions: the lines under each preview, by seed, in the sheet's order.
    """

    tile: tuple[int, int]
    line: int
    cell: tuple[int, int]
    columns: int
    captions: dict[int, tuple[str, ...]]

    @classmethod
    def of(cls, outcome: Outcome[Any]) -> "SheetGrid":
        lines = captions(outcome)
        height, width = _tile_size(outcome.previews[next(iter(lines))].panel)
        # As large as a seed of 16 digits leaves room for: nodes show the sheet at less than half its size.
        line = max(14, round(width * 0.075))
        cell = (width + 2 * BORDER, height + 2 * BORDER + LINES * line)
        return cls((height, width), line, cell, math.ceil(math.sqrt(len(lines))), lines)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        return self.columns * self.cell[0], math.ceil(len(self.captions) / self.columns) * self.cell[1]


def contact_sheets(outcomes: Sequence[Outcome[Any]]) -> Tensor:
    """One sheet for each picture of a batch, `b h w 3` in 0..1; the winner comes first and is framed in green."""
    sheets = [_sheet(outcome) for outcome in outcomes]
    # Early stops leave sheets of different heights.
    height = max(sheet.shape[0] for sheet in sheets)
    width = max(sheet.shape[1] for sheet in sheets)
    return torch.stack(
        [torch.nn.functional.pad(s, (0, 0, 0, width - s.shape[1], 0, height - s.shape[0])) for s in sheets]
    )


def ranked(outcome: Outcome[Any]) -> list[int]:
    """All probed seeds, best first: later looks count more, those that look like another one come last in theirs."""
    order: list[int] = []
    for look in reversed(outcome.looks):
        order += [seed for seed in (*look.ranking.order, *look.seeds) if seed not in order]
    return [seed for seed in dict.fromkeys(order) if seed in outcome.previews]


def captions(outcome: Outcome[Any]) -> dict[int, tuple[str, ...]]:
    """The lines under each probed seed's preview."""
    return {seed: _caption(outcome, rank, seed) for rank, seed in enumerate(ranked(outcome), start=1)}


def _caption(outcome: Outcome[Any], rank: int, seed: int) -> tuple[str, ...]:
    looks = [look for look in outcome.looks if seed in look.seeds]
    verdict = next((look.ranking.verdicts[seed] for look in reversed(looks) if seed in look.ranking.verdicts), None)
    twin = next((look.twins[seed] for look in looks if seed in look.twins), None)
    if verdict is None:
        opinion = "not scored" if twin is None else f"like {twin}"
    else:
        score = "no score" if verdict.score is None else f"score {verdict.score:.3g}"
        opinion = f"{score}, broken" if verdict.broken else score
    left = next((look.step for look in looks if seed not in look.kept), None)
    fate = "winner" if seed == outcome.winner else f"left at step {left}"
    if seed == outcome.winner and not outcome.filtered:
        fate = "taken, unfiltered"
    return f"#{rank}  seed {seed}", opinion, fate


def _sheet(outcome: Outcome[Any]) -> Tensor:
    from PIL import Image, ImageDraw, ImageFont

    grid = SheetGrid.of(outcome)
    (height, width), (cell_w, cell_h) = grid.tile, grid.cell
    sheet = Image.new("RGB", grid.size, BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=round(grid.line * 0.75))
    for place, (seed, lines) in enumerate(grid.captions.items()):
        x, y = place % grid.columns * cell_w, place // grid.columns * cell_h
        won = seed == outcome.winner
        if won:
            draw.rectangle((x, y, x + cell_w - 1, y + height + 2 * BORDER - 1), fill=WINNER)
        tile = _tile(outcome.previews[seed].panel, (height, width))
        sheet.paste(Image.fromarray(tile), (x + BORDER, y + BORDER))
        for number, line in enumerate(lines):
            at = (x + BORDER, y + height + 2 * BORDER + number * grid.line)
            draw.text(at, line, fill=WINNER if won else TEXT, font=font)
    return torch.from_numpy(np.array(sheet)).float() / 255.0


def _tile_size(picture: Tensor) -> tuple[int, int]:
    """Height and width of a picture `h w 3` on the sheet: its longer side at most TILE."""
    scale = min(1.0, TILE / max(picture.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return height, width


def _tile(picture: Tensor, size: tuple[int, int]) -> np.ndarray:
    """A picture `h w 3` in 0..1 as 8 bit, of this height and width."""
    small = torch.nn.functional.interpolate(picture.movedim(-1, 0)[None], size, mode="area")[0].movedim(0, -1)
    return (small.nan_to_num().clamp(0.0, 1.0) * 255.0).round().byte().numpy()
