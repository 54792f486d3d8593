"""Reading a safetensors file."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import DOWNLOAD, FileError

SUFFIXES = (".safetensors", ".sft")


def mapped_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, and its header's metadata.

    The tensors are memory-mapped, so copy them soon: while one of them lives, the file cannot be replaced on Windows,
    and on Linux the process can crash when the file is overwritten.

    Raises:
        FileError: no safetensors file, or a damaged one.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise FileError(
            f"{path.name} is not a safetensors file. Files of other kinds can run any code when they are opened, so "
            "they are not read here. Use the .safetensors version."
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 - no dict
    except FileNotFoundError as error:
        raise FileError(f"{path.name} is no longer there. Refresh the list of files (R) and choose another.") from error
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise FileError(
            f"{path.name} cannot be read as safetensors ({error}). It is damaged, not completely downloaded, or a "
            f"file of another kind under this name. {DOWNLOAD}"
        ) from error
