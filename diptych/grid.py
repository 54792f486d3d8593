"""Edits of one picture side by side: a row for each instruction, a column for each seed, both written beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GROUND, WORDS = (24, 24, 24), (230, 230, 230)
GAP_SHARE, LETTER_SHARE = 1 / 40, 1 / 16
"""Space between cells and height of letters, of a cell's width."""
SMALLEST_LETTERS = 12
LINE = 1.3
"""Height of a line, of its letters'."""
MOST_PIXELS = 256_000_000


@dataclass(frozen=True)
class GridCell:
    """An edit `h w 3` in 0..1 with what it was made from."""

    picture: Tensor
    instruction: str
    seed: int


def grid_cells(pictures: Sequence[Tensor], instructions: Sequence[str], seeds: Sequence[int]) -> list[GridCell]:
    """Edits `h w 3` with the instruction and the seed of each.

    Raises:
        ValueError: not as many of the one as of the other, or two edits of one instruction and seed.
    """
    if not len(pictures) == len(instructions) == len(seeds):
        raise ValueError(
            f"images holds {len(pictures)} pictures, instruction {len(instructions)} and seed {len(seeds)} values, "
            "expected as many of each. Connect instruction and seed of the same Edit Variations that the edits come "
            "from."
        )
    named = list(zip(instructions, seeds, strict=True))
    twice = next((name for index, name in enumerate(named) if name in named[:index]), None)
    if twice is not None:
        raise ValueError(f"Two pictures are of “{twice[0]}” with seed {twice[1]}: a grid has one place for them.")
    return [GridCell(picture, *name) for picture, name in zip(pictures, named, strict=True)]


def draw_grid(cells: Sequence[GridCell], cell_width: int) -> Tensor:
    """The cells as one picture `h w 3`: rows and columns in the order in which instructions and seeds first come.

    Args:
        cell_width: pixels; no cell is wider. Pictures keep their aspect ratio.

    Raises:
        ValueError: when the picture would be too large.
    """
    rows, columns = (list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("instruction", "seed"))
    gap, letters = round(cell_width * GAP_SHARE), max(SMALLEST_LETTERS, round(cell_width * LETTER_SHARE))
    font, line = ImageFont.load_default(letters), round(letters * LINE)
    width = gap + len(columns) * (cell_width + gap)
    heads = [_lines(text, row, font, width - 2 * gap) for row, text in enumerate(rows, 1)]
    pictures = {(cell.instruction, cell.seed): _shrunk(cell.picture, cell_width) for cell in cells}
    heights = [max(pictures[row, seed].height for seed in columns if (row, seed) in pictures) for row in rows]
    height = gap + sum(len(head) * line + tall + line + 2 * gap for head, tall in zip(heads, heights, strict=True))
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"The grid would be {width} x {height} pixels. Lower cell_width, or take fewer seeds or instructions."
        )
    canvas = Image.new("RGB", (width, height), GROUND)
    draw, top = ImageDraw.Draw(canvas), gap
    for row, head, tall in zip(rows, heads, heights, strict=True):
        for text in head:
            draw.text((gap, top), text, WORDS, font)
            top += line
        for column, seed in enumerate(columns):
            picture = pictures.get((row, seed))
            if picture is not None:
                left = gap + column * (cell_width + gap)
                canvas.paste(picture, (left + (cell_width - picture.width) // 2, top))
                _fitting(draw, (left + cell_width / 2, top + tall + line / 2), f"seed {seed}", letters, cell_width)
        top += tall + line + 2 * gap
    return torch.from_numpy(np.array(canvas)).float().div_(255.0)


def _lines(text: str, row: int, font: Any, width: int) -> list[str]:
    """An instruction, broken to the width; its row's number in place of letters that the font does not have."""
    missing = font.getmask("\uffff")
    if any(not letter.isspace() and bytes(font.getmask(letter)) == bytes(missing) for letter in text):
        return [f"instruction {row}"]
    letters = max(1, int(width / font.getlength("n")))
    return wrap(text, letters) or [""]


def _fitting(draw: ImageDraw.ImageDraw, middle: tuple[float, float], text: str, letters: int, width: int) -> None:
    """Text in letters that are as large as the width allows."""
    while (font := ImageFont.load_default(letters)).getlength(text) > width and letters > 1:
        letters -= 1
    draw.text(middle, text, WORDS, font, "mm")


def _shrunk(picture: Tensor, width: int) -> Image.Image:
    image = Image.fromarray((picture.clamp(0.0, 1.0) * 255.0).round().byte().numpy())
    if image.width <= width:
        return image
    return image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
