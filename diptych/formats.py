"""Opening picture files of all formats that pillow can, or saying what to do with the others."""

import io
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

CAMERA_FORMATS = {
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC", b"mif1": "HEIC",
    b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF",
}  # fmt: skip
"""By the brand in bytes 8 to 12 of the file."""
WAYS_OUT = {
    "HEIC": "Save it as JPEG or PNG (an iPhone takes JPEGs with Settings, Camera, Formats, Most Compatible), or "
    "install pillow-heif into ComfyUI's Python.",
    "AVIF": "Save it as JPEG or PNG, or update pillow in ComfyUI's Python to 11.3 or newer.",
}
OF_PHOTOS = {
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"\x89PNG": PngImagePlugin.PngImageFile,
}
"""Formats whose header alone is read when a file is opened, by how files begin."""


class UnreadableError(ValueError):
    """A picture file that cannot be used, and what to do about it."""


def opened(path: Path, content: bytes | None = None) -> Image.Image:
    """The file as pillow opens it: no pixel is read yet.

    Args:
        content: the file's bytes where they are known; `path` is its name then.

    Above pillow's limit of 179 megapixels, which is meant for servers that take files of strangers, photos are opened
    too. Check the size before anything is loaded.

    Raises:
        UnreadableError: a format that needs something that is not installed.
        Whatever Image.open raises.
    """
    with path.open("rb") if content is None else io.BytesIO(content) as file:
        start = file.read(12)
    kind = CAMERA_FORMATS.get(start[8:12]) if start[4:8] == b"ftyp" else None
    if kind == "HEIC" and find_spec("pillow_heif") is not None:
        import_module("pillow_heif").register_heif_opener()
    try:
        return Image.open(path if content is None else io.BytesIO(content))
    except Image.DecompressionBombError:
        for beginning, photo in OF_PHOTOS.items():
            if start.startswith(beginning):
                return photo(path if content is None else io.BytesIO(content))
        raise
    except UnidentifiedImageError as error:
        if kind is None:
            raise
        raise UnreadableError(
            f"{path.name!r} is a picture in the format {kind}, which ComfyUI's Python cannot read. {WAYS_OUT[kind]}"
        ) from error
