"""Writing LoRA files into the host's loras folder."""

import filecmp
import itertools
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import folder_paths
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_lora(stem: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write a safetensors file; its name. A file that is there stays: with other contents the new one gets a number.

    Args:
        stem: of the name, without folders.
        tensors: by key.
        metadata: for the header; with more than one entry the same contents may give different files.

    Raises:
        ValueError: the file cannot be written.
    """
    folder = Path(folder_paths.get_folder_paths("loras")[0])
    unfinished = folder / f".{uuid.uuid4().hex}.unfinished"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, unfinished, dict(metadata))
            return _settled(unfinished, folder, stem)
        finally:
            unfinished.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{stem}.safetensors cannot be written into ComfyUI's loras folder ({error}), expected a folder with "
            f"{sum(tensor.nbytes for tensor in tensors.values()) / 1e6:.0f} MB of free space that ComfyUI may write to."
        ) from error


def _settled(unfinished: Path, folder: Path, stem: str) -> str:
    for number in itertools.count(1):
        path = folder / (f"{stem}.safetensors" if number == 1 else f"{stem}_{number}.safetensors")
        if not path.exists():
            os.replace(unfinished, path)
            return path.name
        if filecmp.cmp(unfinished, path, shallow=False):
            return path.name
    raise AssertionError
