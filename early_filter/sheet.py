"""The contact sheet: every candidate's latest preview with its rank, seed, score and the step at which it left."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .run import Outcome

TILE = 320
"""Longer side of a preview on the sheet, in pixels."""

BORDER, LINE, LINES = 4, 18, 3
BACKGROUND, TEXT, WINNER = (24, 24, 24), (230, 230, 230), (80, 200, 120)


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

    lines = captions(outcome)
    tiles = {seed: _tile(outcome.previews[seed].panel) for seed in lines}
    height, width = next(iter(tiles.values())).shape[:2]
    columns = math.ceil(math.sqrt(len(tiles)))
    cell_w, cell_h = width + 2 * BORDER, height + 2 * BORDER + LINES * LINE
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * cell_w, rows * cell_h), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=LINE - 5)
    for place, (seed, tile) in enumerate(tiles.items()):
        x, y = place % columns * cell_w, place // columns * cell_h
        won = seed == outcome.winner
        if won:
            draw.rectangle((x, y, x + cell_w - 1, y + height + 2 * BORDER - 1), fill=WINNER)
        sheet.paste(Image.fromarray(tile), (x + BORDER, y + BORDER))
        for number, line in enumerate(lines[seed]):
            at = (x + BORDER, y + height + 2 * BORDER + number * LINE)
            draw.text(at, line, fill=WINNER if won else TEXT, font=font)
    return torch.from_numpy(np.array(sheet)).float() / 255.0


def _tile(picture: Tensor) -> np.ndarray:
    """A picture `h w 3` in 0..1 as 8 bit, its longer side at most TILE."""
    scale = min(1.0, TILE / max(picture.shape[:2]))
    size = [max(1, round(side * scale)) for side in picture.shape[:2]]
    small = torch.nn.functional.interpolate(picture.movedim(-1, 0)[None], size, mode="area")[0].movedim(0, -1)
    return (small.nan_to_num().clamp(0.0, 1.0) * 255.0).round().byte().numpy()
