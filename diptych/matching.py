"""Whether an edit, its original and its layout belong together."""

import torch
from torch import Tensor

from .geometry import DiptychLayout, same_shape
from .image import size_of

GLANCE_SIDE = 16
SAME_PICTURE = 0.1
"""Mean difference up to which two pictures can be one, graded or compressed."""


def glance(source: Tensor) -> Tensor:
    """`b n 3`: pixels on a coarse grid of pictures `b h w 3`, to recognize them."""
    rows, columns = (torch.linspace(0, length - 1, GLANCE_SIDE).round().long() for length in source.shape[1:3])
    return source[:, rows][:, :, columns].flatten(1, 2)


def check_original(layout: DiptychLayout, original: Tensor, diptychs: int) -> None:
    """Check that a layout was made for the pictures `original`, and that there are all of its diptychs.

    Raises:
        ValueError: when one belongs to something else.
    """
    if size_of(original) != layout.source:
        raise ValueError(
            f"original is {size_of(original)}, but the layout belongs to a picture of {layout.source}. "
            "Connect original_image and layout of the same DiptychCreate."
        )
    pictures = len(layout.boxes) // layout.tiles
    if len(original) != pictures:
        raise ValueError(f"original holds {len(original)} pictures, but the layout was made for {pictures}.")
    if diptychs % len(layout.boxes):
        raise ValueError(
            f"The image holds {diptychs} diptychs, but the layout was made for {len(layout.boxes)}. "
            "Connect the whole decoded batch."
        )
    if (
        layout.glance is not None
        and float((glance(original) - layout.glance).abs().mean(dim=(1, 2)).max()) > SAME_PICTURE
    ):
        raise ValueError(
            "original is not the picture that the layout was made for, although it has its size. "
            "Connect original_image and layout of the same DiptychCreate."
        )


def check_pair(edited: Tensor, original: Tensor) -> None:
    """Check that there is an original for each edit, and that they have one shape.

    Raises:
        ValueError: other numbers or other shapes.
    """
    if len(original) not in (1, len(edited)):
        raise ValueError(
            f"original holds {len(original)} pictures for {len(edited)} edits, expected 1 for all or one for each."
        )
    # Models round sides to multiples of 16, up or down.
    if not same_shape(size_of(edited), size_of(original), slack=16.0):
        raise ValueError(
            f"edited is {size_of(edited)} and original is {size_of(original)}: these are different shapes, so the edit "
            "does not lie on the original. Crop the original as it was cropped for the edit."
        )
