"""Starting an adapter from a file: its layers and experts as they are, more of both where the new adapter has more."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .adapter import PREFIX, TrainedAdapter, TrainedExperts, TrainedLoRA
from .errors import TrainingError
from .settings import TrainingSettings

ROUTER_NOISE = 0.02
"""By which the router of a copied expert differs from the original's, as a share of it."""


def start_from(adapter: TrainedAdapter, tensors: Mapping[str, Tensor], settings: TrainingSettings) -> list[str]:
    """Put the tensors of a file in published keys, of scale 1, into an adapter. It then computes what the file does.

    Where the adapter has a higher rank, the rows beyond the file's add nothing at first. Where it has more experts,
    these are copies of the file's, with slightly other routers, so that they can grow apart.

    Returns:
        What a user should know.

    Raises:
        TrainingError: the file has something that the adapter has no place for.
    """
    left = dict(tensors)
    generator = torch.Generator().manual_seed(settings.seed)
    notes: dict[str, None] = {}
    with torch.no_grad():
        for layer in adapter.layers:
            if isinstance(layer, TrainedLoRA):
                _start_lora(layer, left)
            elif isinstance(layer, TrainedExperts):
                notes.update(dict.fromkeys(_start_experts(layer, left, generator)))
    if left:
        has_experts = any("expert_" in key for key in left)
        advice = (
            "Choose the adapter MoE for it." if has_experts and not settings.routed else "Start from ICEdit's file."
        )
        raise TrainingError(
            f"start_from names a file with {min(left)}, for which this adapter has no place, expected the layers that "
            f"ICEdit's files train. {advice}"
        )
    return list(notes)


def _start_lora(layer: TrainedLoRA, left: dict[str, Tensor]) -> None:
    for (name, _), down, up in zip(layer.target.parts, layer.down.split(layer.rank), layer.up, strict=True):
        found = [left.pop(f"{PREFIX}{name}.lora_{part}.weight", None) for part in "AB"]
        if found[0] is not None and found[1] is not None:
            _copy(name, found[0], found[1], down, up)


def _start_experts(layer: TrainedExperts, left: dict[str, Tensor], generator: torch.Generator) -> list[str]:
    name = layer.target.parts[0][0]
    router = left.pop(f"{PREFIX}{name}.lora_route.weight", None)
    if router is None:
        return ["The file has no experts: they start from nothing, on top of its layers."]
    given = len(router)
    if given > len(layer.down):
        raise TrainingError(
            f"experts is {len(layer.down)}, but the file of start_from has {given} in {name}. Set experts to {given} "
            "or more."
        )
    matrices = [
        [left.pop(f"{PREFIX}{name}.lora_{part}.expert_{index}.weight") for part in "AB"] for index in range(given)
    ]
    for index in range(len(layer.down)):
        row = router[index % given].float().to(layer.router.device)
        if index >= given:
            row = row * (1 + ROUTER_NOISE * torch.randn(row.shape, generator=generator).to(row.device))
        layer.router[index] = row
        down, up = matrices[index % given]
        _copy(name, down, up, layer.down[index], layer.up[index])
    added = len(layer.down) - given
    return [f"{added} experts of each layer began as copies of the file's {given}."] if added else []


def _copy(name: str, from_down: Tensor, from_up: Tensor, down: Tensor, up: Tensor) -> None:
    rank, inputs = from_down.shape
    if inputs != down.shape[1] or len(from_up) != len(up):
        raise TrainingError(
            f"{name} in the file of start_from takes {inputs} and gives {len(from_up)} features, but in this model it "
            f"takes {down.shape[1]} and gives {len(up)}. Choose a file that was made for this model."
        )
    if rank > len(down):
        raise TrainingError(
            f"rank is {len(down)}, but the file of start_from has {rank} in {name}. Set rank to {rank} or more."
        )
    down[:rank], up[:, :rank], up[:, rank:] = from_down, from_up, 0.0
