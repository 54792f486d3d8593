"""Which expert worked where, as a picture: maps over the diptych, a colour for each expert, and bars of all layers."""

import colorsys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .usage import PLACES, AdapterUsage, LayerUsage

Colour = tuple[int, int, int]

PAPER, INK, FAINT, NOBODY = (20, 21, 25), (236, 236, 238), (150, 152, 160), (44, 46, 52)
COLOURS: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 178, 125), (204, 110, 178), (240, 228, 66), (213, 94, 0), (60, 110, 220),
)  # fmt: skip
"""Of the first experts; they differ for colour-blind eyes too."""
WIDTH, EDGE, GAP = 1280, 28, 20
COLUMNS, MOST_MAPS = 4, 12
CAPTION, STRIP, ROW = 26, 30, 18
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 28, 17, 14
LETTER = 7.4
"""Pixels that a letter of the small size takes, on average."""
LEGEND = (
    "Maps: a spot has the colour of the expert that worked most there, over all steps, the darker the more the others "
    "did. Left of the line is the picture, right of it the edit. Below each map: the experts' shares from the first "
    "step to the last. Expert 0 of one layer has nothing in common with expert 0 of another."
)
SHOWN_PICTURE = 0.35
"""How much of the picture shines through a map."""


def usage_picture(usage: AdapterUsage, steps: int, picture: Tensor | None = None) -> Tensor:
    """The picture `h w 3` in 0..1 of what an adapter's experts did.

    Args:
        usage: of the adapter.
        steps: of the run.
        picture: `h w 3` in 0..1, the decoded diptych; it is shown, and shines through the maps.
    """
    layers = _selection(usage.layers)
    lead = None if picture is None else _image(picture)
    header = _header(usage, steps, lead)
    tiles = [_tile(layer, lead) for layer in layers]
    parts = [header, _grid(tiles), _bars(usage.layers)]
    canvas = Image.new("RGB", (WIDTH, sum(part.height for part in parts) + GAP * (len(parts) + 1)), PAPER)
    top = GAP
    for part in parts:
        canvas.paste(part, (0, top))
        top += part.height + GAP
    return torch.from_numpy(np.array(canvas)).float() / 255.0


def colour_of(expert: int) -> Colour:
    if expert < len(COLOURS):
        return COLOURS[expert]
    # Steps of the golden ratio keep the hues of many experts apart.
    red, green, blue = colorsys.hsv_to_rgb(expert * 0.618 % 1, 0.55, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def _selection(layers: Sequence[LayerUsage]) -> list[LayerUsage]:
    """Layers with a map of their own: all, or some spread evenly."""
    if len(layers) <= MOST_MAPS:
        return list(layers)
    return [layers[round(index * (len(layers) - 1) / (MOST_MAPS - 1))] for index in range(MOST_MAPS)]


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray((picture.float().cpu().nan_to_num().clamp(0, 1).numpy() * 255).round().astype(np.uint8))


def layer_name(path: str) -> str:
    """ "double 3" for "double_blocks.3.img_mlp.2"."""
    kind, number, *_ = path.split(".")
    return f"{kind.removesuffix('_blocks')} {number}"


@dataclass(frozen=True)
class _Pen:
    """Writes on a picture."""

    draw: ImageDraw.ImageDraw

    @classmethod
    def on(cls, image: Image.Image) -> "_Pen":
        return cls(ImageDraw.Draw(image))

    def text(self, at: tuple[float, float], text: str, size: int = TEXT_SIZE, fill: Colour = INK) -> float:
        """Write a text whose middle left is `at`; where it ends."""
        font = ImageFont.load_default(size)
        self.draw.text(at, text, fill=fill, font=font, anchor="lm")
        return at[0] + font.getlength(text)

    def stack(self, box: tuple[float, float, float, float], shares: Sequence[float]) -> None:
        """One horizontal bar of shares that add up to 1."""
        left, top, right, bottom = box
        begin = left
        for expert, share in enumerate(shares):
            end = begin + (right - left) * share
            if round(end) > round(begin):
                self.draw.rectangle((round(begin), top, round(end) - 1, bottom), fill=colour_of(expert))
            begin = end


def _header(usage: AdapterUsage, steps: int, picture: Image.Image | None) -> Image.Image:
    experts = max(layer.experts for layer in usage.layers)
    shown = None
    if picture is not None:
        width = (WIDTH - 2 * EDGE - GAP) // 2
        shown = picture.resize((width, max(1, round(width * picture.height / picture.width))))
    image = Image.new("RGB", (WIDTH, 190 if shown is None else max(240, shown.height)), PAPER)
    left = EDGE
    if shown is not None:
        image.paste(shown, (EDGE, 0))
        left += shown.width + GAP
    pen = _Pen.on(image)
    pen.text((left, 18), "Which expert worked where", TITLE_SIZE)
    facts = f"{len(usage.layers)} routed layers, {experts} experts, top_k {usage.top_k}, {steps} steps"
    pen.text((left, 54), facts, TEXT_SIZE, FAINT)
    _legend(pen, left, 88, experts)
    for number, line in enumerate(textwrap.wrap(LEGEND, int((WIDTH - EDGE - left) / LETTER))):
        pen.text((left, 132 + 22 * number), line, SMALL_SIZE, FAINT)
    return image


def _legend(pen: _Pen, left: float, middle: float, experts: int) -> None:
    at = left
    for expert in range(experts):
        if at > WIDTH - EDGE - 100:
            pen.text((at, middle), "...", TEXT_SIZE, FAINT)
            return
        pen.draw.rounded_rectangle((at, middle - 9, at + 18, middle + 9), 4, fill=colour_of(expert))
        at = pen.text((at + 25, middle), f"expert {expert}") + 22


def _tile(layer: LayerUsage, picture: Image.Image | None) -> Image.Image:
    """A layer's map with its name above and its steps below."""
    width = (WIDTH - 2 * EDGE - (COLUMNS - 1) * GAP) // COLUMNS
    rows, columns = layer.positions.shape[:2]
    height = max(24, min(width, round(width * rows / columns)))
    image = Image.new("RGB", (width, CAPTION + height + 4 + STRIP), PAPER)
    pen = _Pen.on(image)
    end = pen.text((0, CAPTION / 2 - 2), layer_name(layer.path))
    pen.text((end + 10, CAPTION / 2 - 1), f"panel {layer.panel_bits:.2f} bits", SMALL_SIZE, FAINT)
    colours = Image.fromarray(_map(layer.positions)).resize((width, height), Image.Resampling.NEAREST)
    if picture is not None:
        grey = picture.convert("L").convert("RGB").resize((width, height))
        colours = Image.blend(colours, grey, SHOWN_PICTURE)
    image.paste(colours, (0, CAPTION))
    pen.draw.line((width / 2, CAPTION, width / 2, CAPTION + height - 1), fill=PAPER, width=3)
    image.paste(_steps(layer, width), (0, CAPTION + height + 4))
    return image


def _map(positions: Tensor) -> np.ndarray:
    """`height width experts` as pixels: the largest share's colour, the darker the nearer all are to each other."""
    shares = positions / positions.sum(-1, keepdim=True).clamp(min=1e-9)
    largest, expert = shares.max(-1)
    even = 1 / shares.shape[-1]
    clear = ((largest - even) / max(1e-9, 1 - even)).clamp(0, 1)[..., None]
    palette = torch.tensor([colour_of(index) for index in range(shares.shape[-1])], dtype=torch.float32)
    dark = torch.tensor(NOBODY, dtype=torch.float32)
    return (dark + (palette[expert] - dark) * (0.2 + 0.8 * clear)).round().byte().numpy()


def _steps(layer: LayerUsage, width: int) -> Image.Image:
    """Shares over the steps, stacked: the first step at the left."""
    counts = layer.counts.sum(1)
    shares = (counts / counts.sum(-1, keepdim=True).clamp(min=1e-9)).tolist()
    image = Image.new("RGB", (len(shares), STRIP * 4), NOBODY)
    draw = ImageDraw.Draw(image)
    for step, row in enumerate(shares):
        top = 0.0
        for expert, share in enumerate(row):
            bottom = top + share * image.height
            if round(bottom) > round(top):
                draw.line((step, round(top), step, round(bottom) - 1), fill=colour_of(expert))
            top = bottom
    return image.resize((width, STRIP), Image.Resampling.BOX if len(shares) > width else Image.Resampling.NEAREST)


def _grid(tiles: Sequence[Image.Image]) -> Image.Image:
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    height = sum(max(tile.height for tile in row) + GAP for row in rows) - GAP
    image = Image.new("RGB", (WIDTH, height), PAPER)
    top = 0
    for row in rows:
        for column, tile in enumerate(row):
            image.paste(tile, (EDGE + column * (tile.width + GAP), top))
        top += max(tile.height for tile in row) + GAP
    return image


def _bars(layers: Sequence[LayerUsage]) -> Image.Image:
    """All layers: the experts' shares by place."""
    names = 110
    width = (WIDTH - 2 * EDGE - names) // len(PLACES)
    image = Image.new("RGB", (WIDTH, CAPTION + ROW * len(layers)), PAPER)
    pen = _Pen.on(image)
    for place, name in enumerate(PLACES):
        pen.text((EDGE + names + place * width, CAPTION / 2 - 2), f"shares, {name}")
    for row, layer in enumerate(layers):
        top = CAPTION + ROW * row
        pen.text((EDGE, top + ROW / 2 - 1), layer_name(layer.path), SMALL_SIZE)
        for place, counts in enumerate(layer.counts.sum(0)):
            left = EDGE + names + place * width
            if counts.sum() > 0:
                pen.stack((left, top + 2, left + width - GAP, top + ROW - 3), (counts / counts.sum()).tolist())
            else:
                pen.text((left, top + ROW / 2 - 1), "does not go through this layer", SMALL_SIZE, FAINT)
    return image
