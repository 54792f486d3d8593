"""CLIP and SigLIP models in transformers' format: found in the host's folders, loaded by its memory management."""

import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import folder_paths
import torch

from ...early_filter.judges.clip import Encoder, PutOnDevice, is_model_folder

FOLDERS = ("clip_vision", "text_encoders")
"""The host's model folders that are searched, three levels deep."""

DEPTH = 3
HUB_PREFIX = "models--"
"""How huggingface_hub names a model's folder in a download cache."""

_loaded: weakref.WeakValueDictionary[Path, Encoder] = weakref.WeakValueDictionary()


def model_names() -> list[str]:
    """Names of the folders with a CLIP or SigLIP model: their paths, or "organization/model" in a download cache."""
    return sorted(_found())


def encoder(name: str) -> Encoder:
    """The model of that name; it is read again only when nothing uses it any more.

    Raises:
        ValueError: there is no such model, or it cannot be read.
    """
    found = _found()
    if name not in found:
        names = ", ".join(sorted(found)) or "none"
        raise ValueError(
            f"There is no CLIP or SigLIP model {name!r}. Found are: {names}. Put a model's whole folder (config.json, "
            "model.safetensors, tokenizer, preprocessor_config.json) into models/clip_vision and press R to refresh."
        )
    folder = found[name]
    loaded = _loaded.get(folder) or Encoder.load(folder, _managed)
    _loaded[folder] = loaded
    return loaded


def _found() -> dict[str, Path]:
    bases = [Path(base) for kind in FOLDERS for base in folder_paths.get_folder_paths(kind)]
    found: dict[str, Path] = {}
    for base in dict.fromkeys(base for base in bases if base.is_dir()):
        for folder in _subfolders(base, DEPTH):
            if folder.name.startswith(HUB_PREFIX):
                if (snapshot := _snapshot(folder)) is not None:
                    found.setdefault(folder.name.removeprefix(HUB_PREFIX).replace("--", "/"), snapshot)
            elif is_model_folder(folder):
                found.setdefault(folder.relative_to(base).as_posix(), folder)
    return found


def _subfolders(base: Path, depth: int) -> Iterator[Path]:
    """Folders below `base`, linked ones too, without those inside a download cache."""
    for folder, names, _ in os.walk(base, followlinks=True):
        here = Path(folder)
        if here != base:
            yield here
        if len(here.relative_to(base).parts) >= depth or here.name.startswith(HUB_PREFIX):
            names.clear()
        names[:] = sorted(name for name in names if not name.startswith("."))


def _snapshot(folder: Path) -> Path | None:
    """The current snapshot in a download cache; None when it is no CLIP or SigLIP model. Never downloads."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    repository = folder.name.removeprefix(HUB_PREFIX).replace("--", "/")
    try:
        snapshot = Path(snapshot_download(repository, cache_dir=folder.parent, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return snapshot if is_model_folder(snapshot) else None


def _managed(model: torch.nn.Module) -> PutOnDevice:
    """Give a model to the host's memory management, which keeps it on its device while there is room."""
    # The host writes attributes such as `device` onto a model, where transformers' models have properties.
    holder = torch.nn.Module()
    holder.add_module("model", model)
    patcher = comfy.model_patcher.ModelPatcher(
        holder,
        load_device=comfy.model_management.text_encoder_device(),
        offload_device=comfy.model_management.text_encoder_offload_device(),
    )

    def place() -> torch.device:
        comfy.model_management.load_models_gpu([patcher], force_full_load=True)
        return patcher.load_device

    return place
