"""Reading picture files, strip by strip, so that a 200-megapixel photo needs little more memory than its pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, UnidentifiedImageError
from torch import Tensor

from .formats import UnreadableError, opened
from .geometry import Box, Size
from .image import UNPAINTED
from .profiles import ToSRGB, to_srgb

MASK_EDITOR = "clipspace-"
"""How names of the files begin that the mask editor of ComfyUI's page writes: where painted, they are transparent."""
MOST_PIXELS = 1 << 28
"""16384 x 16384: 3 GB as ComfyUI passes pictures on."""
TURNED = 5
"""EXIF's orientations from here on swap width and height."""
HIGHLIGHTS = 8.0
"""A float picture with nearly all values below this is in 0..1, with highlights above 1."""


@dataclass(frozen=True)
class Picture:
    """A picture file.

    Attributes:
        image: `1 h w 3`, float32 in 0..1, transparency laid over white.
        painted: `1 h w` in 0..1, what was painted on it in the mask editor; None where nothing was.
        alpha: `1 h w`, uint8, how opaque it is; None where all of it is.
        notes: what a user should know about it.
    """

    image: Tensor
    painted: Tensor | None = None
    alpha: Tensor | None = None
    notes: tuple[str, ...] = ()


def read_picture(path: str | Path, most_pixels: int = MOST_PIXELS, content: bytes | None = None) -> Picture:
    """Read an image file: its first frame, upright as EXIF says, its colours converted to sRGB.

    16-bit and float grey keep their depth; pillow reads 16-bit colours as 8-bit ones.

    Args:
        most_pixels: of a larger picture nothing but its size is read.
        content: the file's bytes where they are known; `path` is its name then.

    Raises:
        ValueError: when the file is no readable picture, or too large.
    """
    with _explained(Path(path).name) as name, opened(Path(path), content) as file:
        _check_size(file, name, min(most_pixels, MOST_PIXELS))
        ImageOps.exif_transpose(file, in_place=True)
        return _read(file, name)


def read_size(path: str | Path, content: bytes | None = None) -> Size:
    """The size of a picture file, upright as EXIF says, after all of its data has been looked at.

    Raises:
        ValueError: when `read_picture` could not read it.
    """
    with _explained(Path(path).name) as name, opened(Path(path), content) as file:
        _check_size(file, name, MOST_PIXELS)
        if isinstance(file, JpegImagePlugin.JpegImageFile):
            width, height = file.size
            turned = file.getexif().get(ExifTags.Base.Orientation, 1) >= TURNED
            # At an eighth of its size it is decoded faster, which still finds where its data ends too early.
            file.draft(None, (1, 1))
            file.load()
            return Size(height, width) if turned else Size(width, height)
        ImageOps.exif_transpose(file, in_place=True)
        file.load()
        return Size(file.width, file.height)


@contextmanager
def _explained(name: str) -> Iterator[str]:
    """Turns what pillow raises about a picture into sentences."""
    try:
        yield name
    except UnreadableError:
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(f"The picture {name!r} is too large to open safely ({error}). Scale it down first.") from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name!r} is not a picture that can be read. Use a PNG, JPEG, WebP, TIFF, BMP or GIF file."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"The picture {name!r} could not be read, it may be damaged or incomplete: {error}") from error


def _check_size(file: Image.Image, name: str, most_pixels: int) -> None:
    pixels = file.width * file.height
    if pixels > most_pixels:
        why = "can be edited at once" if most_pixels == MOST_PIXELS else "there is memory for now"
        raise UnreadableError(
            f"The picture {name!r} is {file.width} x {file.height}, {pixels / 1e6:.0f} megapixels, more than the "
            f"{most_pixels / 1e6:.0f} that {why}. Scale it down, or cut out the part to edit."
        )


def _read(picture: Image.Image, name: str) -> Picture:
    try:
        conversion, notes = to_srgb(picture), ()
    except ValueError as error:
        note = f"The colour profile of {name!r} could not be used, so its colours may be a little off: {error}."
        conversion, notes = None, (note,)
    if picture.mode == "F" or picture.mode.startswith("I"):
        image, more = _deep_grey(picture, conversion, name)
        return Picture(image, notes=notes + more)
    image = torch.empty(1, picture.height, picture.width, 3)
    if not picture.has_transparency_data:
        for rows, strip in _strips(picture):
            image[0, rows] = _rgb(strip, conversion)
        return Picture(image, notes=notes)
    alpha = torch.empty(image.shape[:3], dtype=torch.uint8)
    painting = name.startswith(MASK_EDITOR)
    for rows, strip in _strips(picture):
        colours = _rgb(strip, conversion)
        alpha[0, rows] = torch.from_numpy(np.array(strip.convert("RGBA").getchannel("A")))
        # Not alpha_composite, which rounds: what lies under half transparency has to be found again.
        weight = 1.0 if painting else alpha[0, rows, :, None] / 255.0
        image[0, rows] = colours * weight + (1.0 - weight)
    if painting:
        return Picture(image, painted=_painted(alpha), notes=notes)
    return Picture(image, alpha=None if bool((alpha == 255).all()) else alpha, notes=notes)


def _deep_grey(picture: Image.Image, conversion: ToSRGB | None, name: str) -> tuple[Tensor, tuple[str, ...]]:
    """`1 h w 3` of a 16-bit, 32-bit or float grey picture, which pillow's own convert would clip; notes."""
    image = torch.empty(1, picture.height, picture.width, 3)
    white = _white(picture)
    for rows, strip in _strips(picture):
        grey = np.clip(np.nan_to_num(np.asarray(strip, dtype=np.float32)) / white, 0.0, 1.0)
        image[0, rows] = torch.from_numpy(grey[..., None] if conversion is None else conversion.convert_grey(grey))
    said = picture.mode == "F" and white > 1.0
    return image, (f"The values of {name!r} go beyond 1, so they were read as 0 to {white:.0f}.",) if said else ()


def _strips(picture: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    for box in Box(0, 0, picture.width, picture.height).strips():
        yield slice(box.top, box.bottom), picture.crop((box.left, box.top, box.right, box.bottom))


def _rgb(strip: Image.Image, conversion: ToSRGB | None) -> Tensor:
    """`h w 3` float32 in 0..1 of an 8-bit picture, without its transparency."""
    if strip.has_transparency_data:
        # In this order: it is the only way in which pillow converts a palette with a transparent colour correctly.
        strip = strip.convert("RGBA").convert("RGB")
        if conversion is not None and conversion.mode == "L":
            strip = strip.getchannel("R")
    rgb = strip.convert("RGB") if conversion is None else conversion.convert(strip)
    return torch.from_numpy(np.array(rgb)).float().div_(255.0)


def _painted(alpha: Tensor) -> Tensor | None:
    """`1 h w` float32 in 0..1: where a picture is transparent; None if it is so nowhere."""
    mask = 1.0 - alpha / 255.0
    return mask if mask.max() > UNPAINTED else None


def _white(picture: Image.Image) -> float:
    """The value of white in a 16-bit, 32-bit or float grey picture."""
    if picture.mode.startswith("I;16"):
        return 65535.0
    few = picture.resize((min(picture.width, 1024), min(picture.height, 1024)), Image.Resampling.NEAREST)
    bright = float(np.quantile(np.nan_to_num(np.asarray(few, dtype=np.float32)), 0.99))
    if picture.mode == "I":
        # Older pillows read 16 bits as 32. Taken for 32 bits, values that fit into 16 would all be black.
        return 65535.0 if bright <= 65535.0 else float(2**31 - 1)
    # Programs write floats in one of these ranges: the smallest that holds nearly everything.
    return next((white for white, up_to in ((1.0, HIGHLIGHTS), (255.0, 256.0)) if bright <= up_to), 65535.0)
