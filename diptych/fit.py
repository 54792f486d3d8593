"""Which part of a picture a panel shows, and at what size: the whole, a region's surroundings, or tiles."""

import math
from collections.abc import Sequence

from .geometry import Box, DiptychLayout, Size, area_panel_size, panel_size

WIDTH, AREA, CROP, TILES = "width", "area", "crop_to_region", "tiles"
FITS = (WIDTH, AREA, CROP, TILES)
EARLIER_FITS = {"width 512": WIDTH}
"""Earlier name -> the present one; workflows and prompts still hold it."""

DEFAULT_MARGIN = 0.5
WIDEST = 2.0
"""Aspect ratio from which on tiles are cut, and that crops stay within."""
OVERLAP = 0.25
"""Of a tile's side, at least."""
MOST_TILES = 32
"""Enough for 24:1; each is a whole panel to the model."""


def fit_layout(
    source: Size,
    pictures: int,
    fit: str,
    panel_width: int,
    regions: Sequence[Box] | None = None,
    margin: float = DEFAULT_MARGIN,
) -> DiptychLayout:
    """The layout of the diptychs for `pictures` pictures of one size.

    Args:
        fit: "width": the whole picture, `panel_width` wide. "area": the whole picture, with as many pixels as a
            square of that width. "crop_to_region": the region and its surroundings. "tiles": overlapping squares along
            a picture of more than 2:1.
        regions: the region's extent in each picture.
        margin: context on each side of the region, as a share of the region's longer side.

    Raises:
        ValueError: unknown fit, a crop without a region, a shape that no panel can have.
    """
    fit = EARLIER_FITS.get(fit, fit)
    whole = Box(0, 0, source.width, source.height)
    if fit == WIDTH:
        return DiptychLayout(panel_size(source, panel_width), source, (whole,) * pictures)
    if fit == AREA:
        return DiptychLayout(area_panel_size(source, panel_width), source, (whole,) * pictures)
    if fit == CROP:
        if not regions:
            raise ValueError(
                "fit is crop_to_region, but there is no region. Paint one (right-click the picture, Open in "
                "MaskEditor), connect a mask to region, or change fit."
            )
        if not 0 <= margin < math.inf:
            raise ValueError(
                f"margin is {margin}, expected a number from 0 on, as a share of the region's longer side."
            )
        boxes = crop_boxes(source, regions, margin, smallest=panel_width // 2)
        return DiptychLayout(panel_size(boxes[0].size, panel_width), source, boxes)
    if fit == TILES:
        boxes = tile_boxes(source)
        return DiptychLayout(panel_size(boxes[0].size, panel_width), source, boxes * pictures, len(boxes))
    raise ValueError(f"Unknown fit {fit!r}, expected one of {', '.join(FITS)}.")


def crop_boxes(source: Size, regions: Sequence[Box], margin: float, smallest: int) -> tuple[Box, ...]:
    """A box around each picture's region; all of one size, because a batch has one panel size.

    Args:
        margin: context on each side, as a share of the region's longer side.
        smallest: pixels; a smaller box would show the model a few enlarged pixels instead of a scene.
    """
    sides = [margin * max(region.width, region.height) for region in regions]
    width = max(smallest, *(math.ceil(r.width + 2 * side) for r, side in zip(regions, sides, strict=True)))
    height = max(smallest, *(math.ceil(r.height + 2 * side) for r, side in zip(regions, sides, strict=True)))
    width, height = max(width, math.ceil(height / WIDEST)), max(height, math.ceil(width / WIDEST))
    size = Size(min(width, source.width), min(height, source.height))
    return tuple(_around(region, size, source) for region in regions)


def _around(region: Box, size: Size, source: Size) -> Box:
    left = region.left + (region.width - size.width) // 2
    top = region.top + (region.height - size.height) // 2
    return Box(
        min(max(left, 0), source.width - size.width),
        min(max(top, 0), source.height - size.height),
        size.width,
        size.height,
    )


def tile_boxes(source: Size) -> tuple[Box, ...]:
    """Squares along the longer side, evenly spread, overlapping by a quarter or more; one box up to 2:1.

    Raises:
        ValueError: when there would be too many.
    """
    short, long = sorted((source.width, source.height))
    if long <= WIDEST * short:
        return (Box(0, 0, source.width, source.height),)
    count = math.ceil((long - short) / (short * (1.0 - OVERLAP))) + 1
    if count > MOST_TILES:
        raise ValueError(
            f"The picture is {source}: that would be {count} panels, expected at most {MOST_TILES} for one picture. "
            "Crop it, or edit one part of it with fit crop_to_region."
        )
    starts = [round(index * (long - short) / (count - 1)) for index in range(count)]
    if source.width > source.height:
        return tuple(Box(start, 0, short, short) for start in starts)
    return tuple(Box(0, start, short, short) for start in starts)
