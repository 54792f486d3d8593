"""Pictures of benchmarks: taken out of tables, and written in the format that a scorer expects."""

import io
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from .edit import FaultError

JPEG_QUALITY = 95
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}


def stored(cell: Any, folder: Path, name: str, beside: Path) -> Path:
    """A picture of a table's cell as a file of its own; it is written once.

    Args:
        cell: the picture's bytes, alone or as `bytes` beside its `path`, which counts where there are none.
        beside: the folder that such paths start from.

    Raises:
        FaultError: there is no picture in it.
    """
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, Mapping) else (cell, None)
    if isinstance(content, str) or (content is None and path):
        return there(beside / str(content or path))
    if not isinstance(content, bytes) or not content:
        raise FaultError("has no picture")
    suffix = SUFFIXES.get(_kind(io.BytesIO(content)))
    file = folder / f"{name}{suffix or '.png'}"
    if not file.exists():
        write_whole(file, content if suffix else _png(_loaded(io.BytesIO(content))))
    return file


def there(path: Path) -> Path:
    """The path of a picture that can be read.

    Raises:
        FaultError: it cannot.
    """
    if not path.is_file():
        raise FaultError("names a picture that is not there")
    with open(path, "rb") as file:
        _kind(file)
    return path


def opened(path: Path) -> Image.Image:
    """In RGB.

    Raises:
        FaultError: it cannot be read.
    """
    with open(path, "rb") as file:
        return _loaded(file).convert("RGB")


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def save_as_png(picture: Path, target: Path) -> Path:
    """The same pixels as PNG; a PNG as it is."""
    with open(picture, "rb") as file:
        content = file.read() if _kind(file) == "PNG" else None
    write_whole(target, content or _png(_loaded(io.BytesIO(picture.read_bytes()))))
    return target


def save_as_jpeg(picture: Image.Image, target: Path) -> Path:
    """With little loss, and no loss of colours' places."""
    content = io.BytesIO()
    picture.convert("RGB").save(content, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    write_whole(target, content.getvalue())
    return target


def save_mask(mask: np.ndarray, target: Path) -> Path:
    """White where it is 1."""
    if not target.exists():
        write_whole(target, _png(Image.fromarray(mask.astype(np.uint8) * 255)))
    return target


def write_whole(target: Path, content: bytes) -> None:
    """The whole file under its name, or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=target.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
        os.chmod(part, 0o644)
        os.replace(part, target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _kind(file: BinaryIO) -> str:
    """From its beginning alone: to decode thousands of pictures takes minutes."""
    kind = _read(lambda: Image.open(file)).format or ""
    file.seek(0)
    return kind


def _loaded(file: BinaryIO) -> Image.Image:
    def load() -> Image.Image:
        picture = Image.open(file)
        picture.load()
        return picture

    return _read(load)


def _read(read: Callable[[], Image.Image]) -> Image.Image:
    try:
        return read()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FaultError("has a picture that cannot be read") from error
