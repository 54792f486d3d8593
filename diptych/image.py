"""Pictures as the host passes them, `b h w c` float in 0..1: reading files, checking, resampling.

8-bit values survive the round trip through files exactly.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .geometry import Size


def size_of(image: Tensor) -> Size:
    """Size of an image `b h w c` or a mask `b h w`."""
    return Size(image.shape[2], image.shape[1])


def read_picture(path: str | Path) -> Tensor:
    """Read an image file as `1 h w 3`, float32 in 0..1.

    The first frame counts, EXIF orientation is applied, transparency is laid over white, 16-bit keeps its depth
    where pillow does.

    Raises:
        ValueError: when the file is no readable picture.
    """
    name = Path(path).name
    try:
        with Image.open(path) as file:
            picture = _rgb(ImageOps.exif_transpose(file))
    except Image.DecompressionBombError as error:
        raise ValueError(f"The picture {name!r} is too large to open safely ({error}). Scale it down first.") from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name!r} is not a picture that can be read. Use a PNG, JPEG, WebP, TIFF, BMP or GIF file."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"The picture {name!r} could not be read, it may be damaged or incomplete: {error}") from error
    return torch.from_numpy(picture)[None]


def _rgb(picture: Image.Image) -> np.ndarray:
    """`h w 3` float32 in 0..1."""
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        return np.repeat(_deep_grey(picture)[..., None], 3, axis=2)
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0


def _deep_grey(picture: Image.Image) -> np.ndarray:
    """`h w` float32 in 0..1 from a 16-bit, 32-bit or float grey picture, which pillow's own convert would clip."""
    grey = np.asarray(picture, dtype=np.float32)
    if picture.mode == "F":
        return np.clip(np.nan_to_num(grey), 0.0, 1.0)
    return np.clip(grey / 65535.0, 0.0, 1.0)


def checked_image(image: Tensor, what: str = "image_input") -> Tensor:
    """The image as `b h w 3` float32 in 0..1: grey is spread, transparency is laid over white, values are clamped.

    Raises:
        ValueError: when it is no image `b h w c` with 1, 3 or 4 channels, is empty, or holds NaN or infinity.
    """
    if image.ndim != 4 or image.shape[3] not in (1, 3, 4):
        raise ValueError(
            f"{what} has the shape {list(image.shape)}, expected an IMAGE [batch, height, width, 3]. "
            "Connect the output of a node like Load Image."
        )
    if image.numel() == 0:
        raise ValueError(f"{what} is empty: its shape is {list(image.shape)}. Check the node that made it.")
    image = image.detach().float().cpu()
    if not bool(torch.isfinite(image).all()):
        raise ValueError(
            f"{what} contains NaN or infinite values, so there is no picture to edit. Check the node that made it; "
            "a VAE in fp16 is a common cause (start ComfyUI with --fp32-vae)."
        )
    image = image.clamp(0.0, 1.0)
    if image.shape[3] == 1:
        return image.expand(-1, -1, -1, 3).contiguous()
    if image.shape[3] == 4:
        alpha = image[..., 3:]
        return image[..., :3] * alpha + (1.0 - alpha)
    return image


def resize(image: Tensor, size: Size) -> Tensor:
    """Lanczos resampling of `b h w c` to `size`, in float, clamped to 0..1; the very same pixels where nothing changes."""
    if size_of(image) == size:
        return image
    return torch.stack([_resize_one(picture, size) for picture in image])


def _resize_one(picture: Tensor, size: Size) -> Tensor:
    # One float plane at a time: pillow resamples "F" at full precision, while its RGB would round to 8 bits.
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(plane)).resize((size.width, size.height), Image.Resampling.LANCZOS)
        )
        for plane in picture.permute(2, 0, 1).numpy()
    ]
    return torch.from_numpy(np.stack(planes, axis=-1)).clamp(0.0, 1.0)
