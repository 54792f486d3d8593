"""A user's wording of a judge's questions: a text file in the host's input folder."""

from pathlib import Path

from .. import files

SUFFIX = ".txt"
LARGEST = 1 << 16
"""Bytes. A workflow may come from anyone, and what it names may be sent to a server: so only short texts are read, only
from the input folder, and only such as name the parts of a wording."""


def wording_path(name: str) -> Path:
    """The file of that name.

    Raises:
        ValueError: there is none, or it is no text file.
    """
    path = files.input_path(name, "wording")
    if path.suffix.lower() != SUFFIX or not path.is_file():
        raise ValueError(f"wording is {name!r}, expected the name of a {SUFFIX} file in ComfyUI's input folder.")
    return path


def wording_text(name: str) -> tuple[str, str] | None:
    """The text of the file of that name, and the name; None where none is given.

    Raises:
        ValueError: the file cannot be read.
    """
    if not name.strip():
        return None
    path = wording_path(name)
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(f"{path.name} has {size} bytes, expected the questions of a judge: at most {LARGEST}.")
    try:
        return path.read_text(encoding="utf-8-sig"), path.name
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is not written in UTF-8. Save it in that encoding.") from None
