"""Files in the host's folders."""

import hashlib
import os
from pathlib import Path

import folder_paths


def input_pictures() -> list[str]:
    """Names of the pictures in the host's input folder."""
    folder = folder_paths.get_input_directory()
    names = [entry.name for entry in os.scandir(folder) if entry.is_file()] if os.path.isdir(folder) else []
    return sorted(folder_paths.filter_files_content_types(names, ["image"]))


def input_picture(name: str) -> Path:
    """Path of a picture named by an upload widget ("cat.png", "sub/cat.png", "cat.png [output]").

    Raises:
        ValueError: when it is no name, leads outside the host's folders, or no such file exists.
    """
    if not isinstance(name, str):
        raise ValueError(f"image is {name!r}, expected the name of a picture in ComfyUI's input folder.")
    bare, folder = folder_paths.annotated_filepath(name)
    folder = os.path.abspath(folder or folder_paths.get_input_directory())
    path = os.path.abspath(os.path.join(folder, bare))
    # Older hosts join the name without looking, and "../" in a shared workflow would then read any picture.
    if not _is_within(folder, path):
        raise ValueError(
            f"The picture {name!r} lies outside ComfyUI's input folder. Upload it with the button instead."
        )
    if not os.path.isfile(path):
        raise ValueError(
            f"The picture {name!r} is not in ComfyUI's input folder. Upload it with the button, or pick another one."
        )
    return Path(path)


def input_path(name: str, what: str) -> Path:
    """Path of a folder or a file in the host's input folder ("my pairs/before", "pairs.jsonl").

    Raises:
        ValueError: when it is no name, leads outside the host's folders, or there is nothing of that name.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{what} is {name!r}, expected the name of a folder or a file in ComfyUI's input folder.")
    bare, folder = folder_paths.annotated_filepath(name.strip())
    folder = os.path.abspath(folder or folder_paths.get_input_directory())
    path = os.path.abspath(os.path.join(folder, bare))
    if not _is_within(folder, path):
        raise ValueError(
            f"{what} is {name!r}, which lies outside ComfyUI's input folder. Put it there, or a link to it: what other "
            "people's workflows name is read from that folder only."
        )
    if not os.path.exists(path):
        raise ValueError(f"{what} is {name!r}, but there is nothing of that name in ComfyUI's input folder.")
    return Path(path)


def containing_folder(name: str) -> Path:
    """The host's folder that a name belongs to: the input folder, unless it ends in [output] or [temp]."""
    return Path(os.path.abspath(folder_paths.annotated_filepath(name.strip())[1] or folder_paths.get_input_directory()))


def _is_within(folder: str, path: str) -> bool:
    try:
        return os.path.commonpath((folder, path)) == folder
    except ValueError:
        # Windows: another drive.
        return False


def fingerprint(path: Path) -> str:
    """Hash of a file's content, so that a replaced file is read again."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
