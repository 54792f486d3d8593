"""Sizes of panels and pictures, and the layout that leads from a diptych back to its source."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

SNAP = 16
"""Pixels: the VAE's factor 8 times the model's 2 x 2 patches."""

MIN_PANEL = 64
MAX_PANEL = 2048
TRAINED_WIDTH = 512

STRIP = 1 << 20
"""Pixels of a large picture that are worked on at a time."""


@dataclass(frozen=True)
class Size:
    """A size in pixels."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"A picture needs at least 1 x 1 pixels; this one has {self}.")

    def __str__(self) -> str:
        return f"{self.width} x {self.height}"


@dataclass(frozen=True)
class Box:
    """A rectangle of a picture, in its pixels."""

    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.left < 0 or self.top < 0 or self.width < 1 or self.height < 1:
            raise ValueError(f"A box needs a corner inside the picture and at least 1 x 1 pixels; this one is {self}.")

    @property
    def size(self) -> Size:
        return Size(self.width, self.height)

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height

    def overlap(self, other: "Box") -> "Box":
        """What two boxes share."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        return Box(left, top, min(self.right, other.right) - left, min(self.bottom, other.bottom) - top)

    def strips(self) -> "Iterator[Box]":
        """The box from top to bottom, in parts of at most STRIP pixels or of one row."""
        rows = max(1, STRIP // self.width)
        for top in range(self.top, self.bottom, rows):
            yield Box(self.left, top, self.width, min(rows, self.bottom - top))

    def __str__(self) -> str:
        return f"{self.width} x {self.height} at ({self.left}, {self.top})"


@dataclass(frozen=True)
class DiptychLayout:
    """How diptychs were made: two panels of `panel` size side by side, from pictures of `source` size.

    `boxes`: the part of its picture that each diptych shows; the `tiles` of one picture follow each other. One box
    stands for any number of pictures. `region`: `d h w` in 0..1 on the panel, one for each diptych or none: where it
    may change. `source_region`: the same as `b h w` bool of the sources, at any scale. `glance`: `b n 3`, a few pixels
    of each source, to recognize it. `alpha`: `b h w` uint8, how opaque the sources are, None where they are opaque.
    """

    panel: Size
    source: Size
    boxes: tuple[Box, ...] = ()
    tiles: int = 1
    region: Tensor | None = field(default=None, compare=False, repr=False)
    source_region: Tensor | None = field(default=None, compare=False, repr=False)
    glance: Tensor | None = field(default=None, compare=False, repr=False)
    alpha: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.boxes:
            object.__setattr__(self, "boxes", (Box(0, 0, self.source.width, self.source.height),))
        if self.tiles < 1 or len(self.boxes) % self.tiles:
            raise ValueError(f"{len(self.boxes)} boxes cannot be shared out among pictures of {self.tiles} tiles each.")
        for box in self.boxes:
            if box.right > self.source.width or box.bottom > self.source.height:
                raise ValueError(f"The box {box} lies outside the picture, which is {self.source}.")

    @property
    def diptych(self) -> Size:
        return Size(2 * self.panel.width, self.panel.height)

    def shown(self) -> list[tuple[int, Box]]:
        """For each diptych the number of its picture and the part of it."""
        return [(index // self.tiles, box) for index, box in enumerate(self.boxes)]

    @property
    def noise_rows(self) -> list[int]:
        """For each diptych the row of noise to sample from: tiles of one picture share theirs, as they share a seed."""
        return [picture for picture, _ in self.shown()]


def snap(length: float) -> int:
    """The multiple of 16 that is nearest to `length`, at least 16."""
    return max(SNAP, int(length / SNAP + 0.5) * SNAP)


def same_shape(one: Size, other: Size, slack: float = 1.0) -> bool:
    """Whether one size is the other one scaled, give or take `slack` pixels of rounding in the smaller one."""
    if one.width * one.height > other.width * other.height:
        one, other = other, one
    scale = ((one.width * one.height) / (other.width * other.height)) ** 0.5
    return abs(other.width * scale - one.width) <= slack and abs(other.height * scale - one.height) <= slack


def panel_size(source: Size, panel_width: int = TRAINED_WIDTH) -> Size:
    """The panel for a source picture: the given width, the source's aspect ratio, both sides snapped to 16.

    Raises:
        ValueError: when a side would leave 64..2048 pixels.
    """
    width = snap(panel_width)
    height = snap(width * source.height / source.width)
    if not MIN_PANEL <= width <= MAX_PANEL:
        raise ValueError(
            f"panel_width is {panel_width}, expected {MIN_PANEL} to {MAX_PANEL}. "
            f"Set it to {TRAINED_WIDTH}, the width that ICEdit was trained with."
        )
    if height < MIN_PANEL:
        raise ValueError(
            f"The picture is {source}; at panel_width {width} its panel would be only {height} pixels high, "
            f"expected at least {MIN_PANEL}. Raise panel_width, or set fit to tiles or area, or crop the picture."
        )
    if height > MAX_PANEL:
        raise ValueError(
            f"The picture is {source}; at panel_width {width} its panel would be {height} pixels high, "
            f"expected at most {MAX_PANEL}. Lower panel_width, or set fit to tiles or area, or crop the picture."
        )
    return Size(width, height)


def area_panel_size(source: Size, panel_width: int = TRAINED_WIDTH) -> Size:
    """The panel with as many pixels as a square one of `panel_width`, and the source's aspect ratio.

    Raises:
        ValueError: when a side would leave 64..2048 pixels.
    """
    aspect = (source.width / source.height) ** 0.5
    panel = Size(snap(panel_width * aspect), snap(panel_width / aspect))
    if min(panel.width, panel.height) < MIN_PANEL or max(panel.width, panel.height) > MAX_PANEL:
        raise ValueError(
            f"The picture is {source}; as many pixels as {panel_width} x {panel_width} would be a panel of {panel}, "
            f"expected sides of {MIN_PANEL} to {MAX_PANEL}. Set fit to tiles or crop the picture."
        )
    return panel
