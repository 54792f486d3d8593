"""Colour profiles of picture files, converted to sRGB: what the models were trained with and what ComfyUI saves."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms

SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Modes of pillow by the colour space that a profile describes."""
GREYS = ("1", "L", "LA", "La")
SAME = 2
"""Of 255: a profile that changes no colour by more is sRGB in effect, and the pixels stay as they are."""
PROBE_STEPS = 9
BLACK_POINT_COMPENSATION, NO_OPTIMIZATION = 0x2000, 0x0100
"""littlecms' flags; pillow has names for them since 10.3."""


@dataclass(frozen=True)
class ToSRGB:
    """A conversion from a picture's colours, in pillow's `mode`, to sRGB."""

    mode: str
    transform: ImageCms.ImageCmsTransform

    def convert(self, picture: Image.Image) -> Image.Image:
        """The picture as RGB."""
        converted = ImageCms.applyTransform(picture.convert(self.mode), self.transform)
        assert converted is not None
        return converted

    def convert_grey(self, grey: np.ndarray) -> np.ndarray:
        """`h w 3` from grey `h w` in 0..1 of more than 8 bits, interpolated between the colours of 8-bit greys."""
        steps = np.linspace(0.0, 1.0, 256)
        colours = np.asarray(self.convert(_ramp()), np.float32)[0] / 255.0
        return np.stack([np.interp(grey, steps, colours[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def to_srgb(picture: Image.Image) -> ToSRGB | None:
    """The conversion that a picture's embedded profile asks for; None where there is nothing to convert.

    Raises:
        ValueError: the profile is damaged or belongs to another kind of picture.
    """
    try:
        found = _found(picture)
        if found is None:
            return None
        mode, profile = found
        conversion = ToSRGB(
            mode,
            ImageCms.buildTransform(
                profile,
                ImageCms.createProfile("sRGB"),
                mode,
                "RGB",
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                # littlecms shortens curves of greys to a few points: up to 10 of 255 off in the dark.
                BLACK_POINT_COMPENSATION | (NO_OPTIMIZATION if mode == "L" else 0),  # pyright: ignore[reportArgumentType]
            ),
        )
        return None if _is_srgb(conversion) else conversion
    # A pillow that was built without littlecms raises the ImportError.
    except (ImageCms.PyCMSError, ImportError, OSError, TypeError) as error:
        raise ValueError(str(error)) from error


def _found(picture: Image.Image) -> tuple[str, Any] | None:
    """The mode to convert from, and the profile."""
    if picture.mode == "LAB":
        return "LAB", ImageCms.createProfile("LAB")
    content = picture.info.get("icc_profile")
    if not content:
        return None
    profile: Any = ImageCms.getOpenProfile(io.BytesIO(content))
    space = profile.profile.xcolor_space
    mode = SPACES.get(space)
    grey = picture.mode in GREYS or picture.mode.startswith("I;16") or picture.mode in ("I", "F")
    # Grey pictures with an RGB profile are common: their three channels are equal.
    fits = {"RGB": picture.mode != "CMYK", "L": grey, "CMYK": picture.mode == "CMYK"}
    if mode is None or not fits[mode]:
        raise ValueError(f"it describes {space.strip()} colours, but the picture is {picture.mode}")
    return mode, profile


def _is_srgb(conversion: ToSRGB) -> bool:
    if conversion.mode not in ("RGB", "L"):
        return False
    probe = _colours() if conversion.mode == "RGB" else _ramp()
    before = np.asarray(probe.convert("RGB"), np.int16)
    return int(np.abs(np.asarray(conversion.convert(probe), np.int16) - before).max()) <= SAME


def _ramp() -> Image.Image:
    return Image.fromarray(np.arange(256, dtype=np.uint8)[None])


def _colours() -> Image.Image:
    steps = np.linspace(0, 255, PROBE_STEPS).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3))
