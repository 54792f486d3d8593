"""Reading the file that a training starts from."""

from pathlib import Path

import folder_paths
from torch import Tensor

from ...moe_lora import layouts
from ...moe_lora.checkpoint import Adapter, read_adapter
from ...moe_lora.errors import FileError
from ...training.adapter import PREFIX
from ...training.errors import TrainingError

NO_FILE = "None"


def start_path(name: str) -> Path | None:
    """The file of that name among the loras; None for none.

    Raises:
        TrainingError: there is no such file.
    """
    if name == NO_FILE:
        return None
    path = folder_paths.get_full_path("loras", name)
    if path is None:
        raise TrainingError(f"start_from is {name!r}, which is not in models/loras. Refresh (R) and choose another.")
    return Path(path)


def start_tensors(path: Path) -> dict[str, Tensor]:
    """The file's tensors by the published keys, with alpha and rank made part of the matrices: their scale is 1.

    Raises:
        TrainingError: it cannot be read, or is no LoRA of matrix pairs.
    """
    try:
        adapter = read_adapter(path)
    except FileError as error:
        raise TrainingError(f"start_from cannot be used: {error}") from error
    return _plain(adapter) | _routed(adapter)


def _plain(adapter: Adapter) -> dict[str, Tensor]:
    found = {}
    for name, tensor in adapter.plain.items():
        if name.endswith(layouts.ALPHA):
            continue
        base = name.removesuffix(layouts.UP)
        alpha = adapter.plain.get(base + layouts.ALPHA)
        if base != name and alpha is not None:
            tensor = tensor.float() * (float(alpha) / tensor.shape[1])
        found[name] = tensor.float()
    return found


def _routed(adapter: Adapter) -> dict[str, Tensor]:
    found = {}
    for layer in adapter.routed:
        found[f"{PREFIX}{layer.name}.lora_route.weight"] = layer.router.float()
        for index, (down, up) in enumerate(zip(layer.down, layer.up, strict=True)):
            found[f"{PREFIX}{layer.name}.lora_A.expert_{index}.weight"] = down.float()
            found[f"{PREFIX}{layer.name}.lora_B.expert_{index}.weight"] = up.float() * layer.scale
    return found
