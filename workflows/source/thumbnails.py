"""Draws the pictures that the template browser shows: `python -m workflows.source.thumbnails` in the repository's root.

Each shows the source photograph and how its workflow works. None shows an edit, which would need the real models.
The browser takes JPEG files only. The WebP file beside each carries the workflow: dropped on the page, it opens.
"""

from collections.abc import Callable
from pathlib import Path
from textwrap import fill

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from . import carried
from .turns import INSTRUCTIONS

FOLDER = Path(__file__).resolve().parent.parent
PHOTO = FOLDER.parent / "headless" / "astronaut.jpg"
SIZE, FINER = 512, 2
"""The side of a thumbnail in pixels, and the factor by which it is drawn larger."""

BACKGROUND, CARD, FAINT, TEXT = "#14171d", "#222732", "#8a93a6", "#f4f6fa"
GREEN, BLUE = "#50c878", "#5aa2f0"
HAIR = INSTRUCTIONS[0]
Rectangle = tuple[float, float, float, float]
"""Left, top, width, height in pixels of the thumbnail."""


class Card:
    """A thumbnail that is being drawn; all lengths are in its pixels."""

    def __init__(self, title: str, subtitle: str) -> None:
        self.image = Image.new("RGB", (SIZE * FINER, SIZE * FINER), BACKGROUND)
        self.draw = ImageDraw.Draw(self.image)
        self.text((32, 410), title, 34, TEXT)
        self.text((32, 456), subtitle, 19, FAINT)

    def text(self, at: tuple[float, float], text: str, size: int, color: str, anchor: str = "la") -> None:
        font = ImageFont.load_default(size * FINER)
        self.draw.text((at[0] * FINER, at[1] * FINER), text, color, font, anchor)

    def box(self, box: Rectangle, fill: str | None = CARD, outline: str | None = None, radius: float = 12) -> None:
        self.draw.rounded_rectangle(_corners(box), radius * FINER, fill, outline, 3 * FINER if outline else 0)

    def picture(self, picture: Image.Image, box: Rectangle, frame: str | None = None, radius: float = 12) -> None:
        """A picture that fills the box. If it is too tall, more is cut off at the bottom than at the top."""
        left, top, right, bottom = _corners(box)
        width, height = right - left, bottom - top
        scale = max(width / picture.width, height / picture.height)
        whole = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
        x, y = (whole.width - width) // 2, (whole.height - height) // 6
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, width - 1, height - 1), radius * FINER, 255)
        self.image.paste(whole.crop((x, y, x + width, y + height)), (left, top), mask)
        if frame:
            self.box(box, None, frame, radius)

    def words(self, text: str, box: Rectangle, size: int = 22, color: str = TEXT) -> None:
        """A quotation in a card, one line for each line of the text."""
        self.box(box)
        middle = box[0] + box[2] / 2, box[1] + box[3] / 2
        self.draw.multiline_text(
            (middle[0] * FINER, middle[1] * FINER),
            text,
            color,
            ImageFont.load_default(size * FINER),
            "mm",
            spacing=8 * FINER,
            align="center",
        )

    def arrow(self, start: tuple[float, float], end: tuple[float, float], color: str = FAINT) -> None:
        """A straight arrow, to the right or down."""
        (x0, y0), (x1, y1) = start, end
        self.draw.line((x0 * FINER, y0 * FINER, x1 * FINER, y1 * FINER), color, 3 * FINER)
        head = (
            [(x1, y1), (x1 - 9, y1 - 7), (x1 - 9, y1 + 7)]
            if y0 == y1
            else [(x1, y1), (x1 - 7, y1 - 9), (x1 + 7, y1 - 9)]
        )
        self.draw.polygon([(x * FINER, y * FINER) for x, y in head], color)

    def finished(self) -> Image.Image:
        return self.image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _corners(box: Rectangle) -> tuple[int, int, int, int]:
    left, top, width, height = box
    return round(left * FINER), round(top * FINER), round((left + width) * FINER), round((top + height) * FINER)


def _masked(photo: Image.Image) -> Image.Image:
    """The right panel of a diptych before the edit: the same picture, blurred and darkened."""
    return Image.blend(photo.filter(ImageFilter.GaussianBlur(6)), Image.new("RGB", photo.size, CARD), 0.72)


def _noisy(photo: Image.Image, share: float) -> Image.Image:
    return Image.blend(
        photo.filter(ImageFilter.GaussianBlur(10)), Image.effect_noise(photo.size, 90).convert("RGB"), share
    )


def _diptych(card: Card, photo: Image.Image) -> None:
    card.picture(photo, (32, 40, 220, 270))
    card.picture(_masked(photo), (260, 40, 220, 270), BLUE)
    card.text((370, 175), "?", 90, BLUE, "mm")
    card.words(f"“{HAIR}”", (32, 330, 448, 56), 24)


def _experts(card: Card, photo: Image.Image) -> None:
    card.picture(photo, (32, 40, 200, 270))
    card.arrow((240, 175), (284, 175))
    for number in range(4):
        chosen = number == 1
        top = 40 + number * 70
        card.box((292, top, 188, 58), GREEN if chosen else CARD)
        card.text((386, top + 29), f"expert {number + 1}", 22, BACKGROUND if chosen else FAINT, "mm")
    card.words(f"“{HAIR}”", (32, 330, 448, 56), 24)


def _reused(card: Card, photo: Image.Image) -> None:
    """A diptych of which most is dark: computed are the marked tokens alone."""
    card.picture(photo, (32, 40, 220, 270))
    card.picture(photo, (260, 40, 220, 270))
    computed = {(row, column) for row in range(3) for column in range(6, 9)}
    for row in range(9):
        for column in range(5):
            marked = (row, column + 5) in computed
            box = (260 + column * 44 + 2, 40 + row * 30 + 2, 40, 26)
            card.box(box, None if marked else CARD, BLUE if marked else None, 4)
    card.words(f"“{HAIR}”", (32, 330, 448, 56), 24)


def _candidates(card: Card, photo: Image.Image) -> None:
    for place in range(6):
        left, top = 32 + place % 3 * 154, 40 + place // 3 * 176
        won = place == 4
        card.picture(_noisy(photo, 0.3 if won else 0.62), (left, top, 140, 140), GREEN if won else None)
        card.text((left + 70, top + 155), f"seed {42 + place}", 17, GREEN if won else FAINT, "mm")


def _turns(card: Card, photo: Image.Image) -> None:
    card.picture(photo, (32, 40, 128, 80), None, 8)
    for number, edit in enumerate(INSTRUCTIONS, start=1):
        top = 40 + number * 88
        card.arrow((96, top - 7), (96, top + 1), BLUE)
        card.picture(_masked(photo), (32, top + 2, 128, 76), BLUE, 8)
        card.box((172, top + 2, 308, 76))
        card.text((192, top + 40), str(number), 26, BLUE, "lm")
        card.text((222, top + 40), fill(f"“{edit}”", 26), 19, TEXT, "lm")


def _sizes(card: Card, photo: Image.Image) -> None:
    for box in ((32, 40, 250, 140), (296, 40, 184, 264), (32, 194, 118, 192), (164, 194, 118, 110)):
        card.picture(photo, box)
    card.words(f"“{HAIR}”", (164, 318, 316, 68), 22)


def _where(card: Card, photo: Image.Image) -> None:
    """The picture, dimmed but for the hair, which a line surrounds."""
    card.picture(photo, (32, 40, 220, 270))
    dimmed = Image.blend(photo, Image.new("RGB", photo.size, "black"), 0.7)
    width, height = photo.size
    hair = [(0.32, 0.02), (0.52, 0.0), (0.62, 0.14), (0.6, 0.32), (0.5, 0.16), (0.4, 0.2), (0.36, 0.36), (0.28, 0.2)]
    outline = [(round(x * width), round(y * height)) for x, y in hair]
    mask = Image.new("L", photo.size)
    ImageDraw.Draw(mask).polygon(outline, 255)
    mask = mask.filter(ImageFilter.GaussianBlur(width / 60))
    dimmed.paste(photo, (0, 0), mask)
    inside = mask.point([0] * 129 + [255] * 127)
    line = ImageChops.subtract(inside.filter(ImageFilter.MaxFilter(9)), inside)
    dimmed.paste(GREEN, (0, 0), line)
    card.picture(dimmed, (260, 40, 220, 270))
    card.words("“hair”", (32, 330, 120, 56), 24)
    card.words(f"“{HAIR}”", (166, 330, 314, 56), 22)


def _grid(card: Card, photo: Image.Image) -> None:
    for row, edit in enumerate(INSTRUCTIONS):
        card.text((32, 34 + row * 122), f"“{edit}”", 17, TEXT)
        for column in range(3):
            left, top = 32 + column * 154, 58 + row * 122
            chosen = (row, column) == (1, 2)
            card.picture(_masked(photo), (left, top, 140, 78), GREEN if chosen else None, 8)
            card.text((left + 70, top + 88), f"seed {42 + column}", 14, GREEN if chosen else FAINT, "mm")


def _described(card: Card, photo: Image.Image) -> None:
    card.picture(photo, (32, 40, 220, 250))
    card.picture(_masked(photo), (260, 40, 220, 250), BLUE)
    card.text((370, 165), "?", 90, BLUE, "mm")
    card.words("“a woman in an\norange spacesuit”", (32, 302, 220, 84), 20)
    card.words("“make her hair\ndark green”", (260, 302, 220, 84), 20)


def _inverted(card: Card, photo: Image.Image) -> None:
    card.picture(photo, (96, 40, 140, 150))
    card.arrow((246, 115), (272, 115))
    card.picture(Image.effect_noise(photo.size, 110).convert("RGB"), (282, 40, 134, 150))
    card.arrow((349, 198), (349, 224), BLUE)
    card.picture(photo, (96, 234, 158, 152))
    card.picture(_masked(photo), (262, 234, 158, 152), BLUE)
    card.text((341, 310), "?", 70, BLUE, "mm")


def _taught(card: Card, photo: Image.Image) -> None:
    for row in range(3):
        top = 40 + row * 92
        card.picture(photo, (32, top, 104, 80), None, 8)
        card.arrow((142, top + 40), (160, top + 40))
        card.picture(_masked(photo), (168, top, 104, 80), BLUE, 8)
        card.text((220, top + 40), "?", 40, BLUE, "mm")
    card.arrow((284, 172), (322, 172))
    card.box((332, 90, 148, 164), GREEN)
    card.text((406, 156), "your", 26, BACKGROUND, "mm")
    card.text((406, 190), "edit", 26, BACKGROUND, "mm")
    card.words("“remove the price tag”", (32, 330, 448, 56), 24)


THUMBNAILS: dict[str, tuple[str, str, Callable[[Card, Image.Image], None]]] = {
    "icedit": ("ICEdit", "A picture and one sentence in, the edit out", _diptych),
    "icedit_moe": ("ICEdit MoE", "With the paper's mixture of LoRA experts", _experts),
    "icedit_fast": ("ICEdit Fast", "Only what can change is computed", _reused),
    "icedit_early_filter": ("ICEdit Early Filter", "Six seeds tried, the best one finished", _candidates),
    "icedit_multi_turn": ("ICEdit Multi-Turn", "One edit after another, each on the last", _turns),
    "icedit_mixed_sizes": ("ICEdit Mixed Sizes", "Many pictures of any shape in one run", _sizes),
    "icedit_say_where": ("ICEdit Say Where", "What may change is named in words", _where),
    "icedit_grid": ("ICEdit Grid", "Instructions and seeds side by side", _grid),
    "icedit_text_to_image": ("ICEdit without Training", "Plain FLUX.1-dev, told what the picture shows", _described),
    "icedit_inversion": ("ICEdit Inversion", "Plain FLUX.1-dev, from the picture's own noise", _inverted),
    "icedit_teach": ("ICEdit Teach", "Your own kind of edit, learned from your pairs", _taught),
}
"""By workflow: title, subtitle, drawing."""


def main() -> None:
    """Write every thumbnail beside its workflow."""
    with Image.open(PHOTO) as opened:
        photo = opened.convert("RGB")
    for name, (title, subtitle, draw) in THUMBNAILS.items():
        card = Card(title, subtitle)
        draw(card, photo)
        finished = card.finished()
        finished.save(FOLDER / f"{name}.jpg", quality=88)
        finished.save(FOLDER / f"{name}.webp", quality=80, method=6)
    carried.main()


if __name__ == "__main__":
    main()
