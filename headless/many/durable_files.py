"""Files that are on the disk as a whole when a call returns, whatever stops the process or the machine."""

import os
import threading
from contextlib import suppress
from pathlib import Path


def write_whole(target: Path, content: bytes, unfinished: Path) -> None:
    """The whole file under its name, or nothing."""
    part = unfinished / f"{threading.get_ident()}-{target.name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def append_whole(path: Path, text: str) -> None:
    """All of the text, or nothing of it."""
    # Without a buffer, which would write its rest when the file is closed, after what failed was taken back.
    with open(path, "ab", buffering=0) as file:
        before = file.tell()
        left = memoryview(text.encode())
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            # A full disk takes the beginning of a line.
            with suppress(OSError):
                os.truncate(path, before)
            raise


def sync_folder(folder: Path) -> None:
    """A name that is new in a folder is on the disk only when the folder is; Windows has no such call."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
