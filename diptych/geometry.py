"""Sizes of panels and pictures, and the layout that leads from a diptych back to its source."""

from dataclasses import dataclass

SNAP = 16
"""Pixels: the VAE's factor 8 times the model's 2 x 2 patches."""

MIN_PANEL = 64
MAX_PANEL = 2048
TRAINED_WIDTH = 512


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
class DiptychLayout:
    """How a diptych was made: two panels of `panel` size side by side, from a source of `source` size."""

    panel: Size
    source: Size

    @property
    def diptych(self) -> Size:
        return Size(2 * self.panel.width, self.panel.height)


def snap(length: float) -> int:
    """The multiple of 16 that is nearest to `length`, at least 16."""
    return max(SNAP, int(length / SNAP + 0.5) * SNAP)


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
            f"expected at least {MIN_PANEL}. Raise panel_width or crop the picture to a less wide shape."
        )
    if height > MAX_PANEL:
        raise ValueError(
            f"The picture is {source}; at panel_width {width} its panel would be {height} pixels high, "
            f"expected at most {MAX_PANEL}. Lower panel_width or crop the picture to a less tall shape."
        )
    return Size(width, height)
