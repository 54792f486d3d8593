"""The candidates' latest previews, best first: as pictures, and with rank, seed, score and fate written below them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .judge import Verdict
from .outcome import Outcome

WIDTH, BORDER = 400, 10
"""Width of a captioned preview, and of the frame around it, in pixels."""

FONT_SIZE, LINE = 48, 52
"""In pixels: nodes show six captioned previews at a third of their size."""

LOSER, WINNER = ((24, 24, 24), (230, 230, 230)), ((80, 200, 120), (0, 0, 0))
"""Colours of the frame and of the text on it."""


@dataclass(frozen=True)
class RankedPreview:
    """A candidate's latest preview.

    Attributes:
        picture: `h w 3` in 0..1, what was judged.
        lines: rank and seed, score, fate; in a batch also the picture's number.
        score: the judge's, if it gave one.
    """

    seed: int
    picture: Tensor
    lines: tuple[str, ...]
    won: bool
    score: float | None = None

    def captioned(self) -> Tensor:
        """The picture with its lines below it, `h w 3` of width WIDTH; a winner on green."""
        from PIL import Image, ImageDraw, ImageFont

        frame, text = WINNER if self.won else LOSER
        picture = Image.fromarray((self.picture.numpy() * 255.0).round().astype(np.uint8))
        inside = WIDTH - 2 * BORDER
        picture = picture.resize((inside, max(1, round(inside * picture.height / picture.width))))
        below = picture.height + 2 * BORDER
        canvas = Image.new("RGB", (WIDTH, below + len(self.lines) * LINE), frame)
        canvas.paste(picture, (BORDER, BORDER))
        draw = ImageDraw.Draw(canvas)
        for number, line in enumerate(self.lines):
            size, at = FONT_SIZE, (BORDER, below + (number + 0.4) * LINE)
            # A long seed is written in smaller letters.
            while (font := ImageFont.load_default(size)).getlength(line) > inside:
                size -= 1
            draw.text(at, line, fill=text, font=font, anchor="lm")
        return torch.from_numpy(np.array(canvas)).float() / 255.0


def ranked_previews(outcomes: Sequence[Outcome[Any]]) -> list[RankedPreview]:
    """Each picture's probed candidates, best first, one picture after the other."""
    return [
        RankedPreview(
            seed,
            outcome.previews[seed].panel.nan_to_num().clamp(0.0, 1.0),
            _caption(outcome, rank, seed) + ((f"picture {number}",) if len(outcomes) > 1 else ()),
            seed == outcome.winner,
            verdict.score if (verdict := _verdict(outcome, seed)) else None,
        )
        for number, outcome in enumerate(outcomes, start=1)
        for rank, seed in enumerate(_ranked(outcome), start=1)
    ]


def _ranked(outcome: Outcome[Any]) -> list[int]:
    """All probed seeds, best first: later looks count more, those that look like another one come last in theirs."""
    order = [seed for look in reversed(outcome.looks) for seed in (*look.ranking.order, *look.seeds)]
    return [seed for seed in dict.fromkeys(order) if seed in outcome.previews]


def _caption(outcome: Outcome[Any], rank: int, seed: int) -> tuple[str, ...]:
    looks = [look for look in outcome.looks if seed in look.seeds]
    verdict = _verdict(outcome, seed)
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


def _verdict(outcome: Outcome[Any], seed: int) -> Verdict | None:
    """The latest one."""
    found = (look.ranking.verdicts.get(seed) for look in reversed(outcome.looks) if seed in look.seeds)
    return next((verdict for verdict in found if verdict is not None), None)
