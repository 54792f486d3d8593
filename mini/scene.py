"""The picture world: what a scene consists of, and the words for it. Needs nothing but Python."""

import random
from dataclasses import dataclass, replace

PANEL = 128
"""Width and height of a picture, pixels."""

COLOURS = {
    "red": (0.86, 0.12, 0.12),
    "orange": (0.98, 0.55, 0.08),
    "yellow": (0.96, 0.90, 0.20),
    "green": (0.12, 0.62, 0.22),
    "blue": (0.12, 0.28, 0.86),
    "purple": (0.55, 0.18, 0.72),
}
BACKGROUNDS = {
    "white": (0.97, 0.97, 0.97),
    "grey": (0.58, 0.58, 0.58),
    "black": (0.06, 0.06, 0.06),
    "pink": (1.00, 0.74, 0.80),
    "cyan": (0.60, 0.92, 0.96),
    "brown": (0.45, 0.30, 0.18),
}
KINDS = ("circle", "square", "triangle", "diamond", "cross")
TEXTURES = ("plain", "striped", "checked")
PLACES = ("top left", "top right", "bottom left", "bottom right")
RADII = (16.0, 24.0)
JITTER = 6.0
ADDED_RADIUS = 20.0
OUTLINE = 5.0
"""Width of an outline, pixels."""


@dataclass(frozen=True)
class Shape:
    """One shape. `place` is the quarter of the picture that it lies in; centre and radius are in pixels."""

    kind: str
    colour: str
    place: str
    x: float
    y: float
    radius: float
    filled: bool = True

    def __post_init__(self) -> None:
        for value, known in ((self.kind, KINDS), (self.colour, tuple(COLOURS)), (self.place, PLACES)):
            if value not in known:
                raise ValueError(f"{value!r} is not in this world, which has {', '.join(known)}.")


@dataclass(frozen=True)
class Scene:
    """A background and shapes, which all differ in kind, colour and place."""

    background: str
    texture: str
    shapes: tuple[Shape, ...]

    def __post_init__(self) -> None:
        for value, known in ((self.background, tuple(BACKGROUNDS)), (self.texture, TEXTURES)):
            if value not in known:
                raise ValueError(f"{value!r} is not in this world, which has {', '.join(known)}.")

    def free_places(self) -> list[str]:
        return [place for place in PLACES if all(shape.place != place for shape in self.shapes)]

    def without(self, gone: Shape) -> "Scene":
        return replace(self, shapes=tuple(shape for shape in self.shapes if shape != gone))

    def exchanging(self, old: Shape, new: Shape) -> "Scene":
        return replace(self, shapes=tuple(new if shape == old else shape for shape in self.shapes))


def centre(place: str) -> tuple[float, float]:
    """x, y of the middle of a quarter."""
    row, column = divmod(PLACES.index(place), 2)
    return PANEL * (0.25 + 0.5 * column), PANEL * (0.25 + 0.5 * row)


def random_scene(draw: random.Random) -> Scene:
    count = draw.randint(1, 3)
    kinds, colours = draw.sample(KINDS, count), draw.sample(list(COLOURS), count)
    shapes = []
    for kind, colour, place in zip(kinds, colours, draw.sample(PLACES, count), strict=True):
        x, y = (middle + draw.uniform(-JITTER, JITTER) for middle in centre(place))
        shapes.append(Shape(kind, colour, place, x, y, draw.uniform(*RADII), draw.random() < 0.7))
    return Scene(draw.choice(list(BACKGROUNDS)), draw.choice(TEXTURES), tuple(shapes))
