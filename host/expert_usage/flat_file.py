"""A MoE-LoRA as a file without experts, for the host's own loader and programs that cannot route."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import torch
from torch import Tensor

from ...moe_lora.checkpoint import Adapter
from ...moe_lora.errors import AdapterError
from ...moe_lora.flux_keys import diffusers_name
from ...moe_lora.layouts import ALPHA, BIAS, DOWN, MAGNITUDE, UP
from ...moe_lora.routed import RoutedWeights, adapter_identity
from ...training.flatten import ExpertFactors, FlatLayer, Weights, errors_in_words, flatten_layer
from ...training.usage import AdapterUsage, RunUsage
from ..interrupts import poll
from ..lora_files import save_lora

METADATA_KEY = "icedit"


@dataclass(frozen=True)
class FlatSettings:
    """How the experts of a layer become one LoRA.

    Attributes:
        weights: see `training.flatten`.
        rank: of each layer; 0 keeps that of all experts together.
        usage: what a run has shown; needed unless the weights are equal.
    """

    weights: Weights
    rank: int
    usage: RunUsage | None = None


def write_flat_file(name: str, adapter: Adapter, settings: FlatSettings) -> tuple[str, str]:
    """Write the file beside the host's other LoRAs.

    Args:
        name: of the adapter's file.
        adapter: what it holds.
        settings: how its experts become one.

    Returns:
        The new file's name, and a report.

    Raises:
        AdapterError: the adapter has no experts, or parts that the host's own loader does not read.
        ValueError: the usage does not fit, or the file cannot be written.
    """
    _check(name, adapter)
    usage = _usage(name, adapter, settings)
    layers = []
    for layer in adapter.routed:
        poll()
        layers.append(_flat(layer, settings, usage))
    tensors = _tensors(adapter, layers)
    rank = max(len(layer.down) for layer in layers)
    loss = errors_in_words(layers, settings.weights, usage is not None)
    source = PurePath(name.replace("\\", "/"))
    about = {
        "kind": "ordinary LoRA in place of a MoE-LoRA's experts", "source": source.name, "weights": settings.weights,
        "rank": rank, "loss": loss,
    }  # fmt: skip
    # One entry: the order of several would change from file to file.
    written = save_lora(
        f"{source.stem}_flat_{settings.weights}_r{rank}", tensors, {METADATA_KEY: json.dumps(about, sort_keys=True)}
    )
    plain = sum(key.endswith(UP) for key in adapter.plain)
    what = (
        f"{written}: an ordinary LoRA in place of {source.name}, for ComfyUI's own LoRA loaders and for programs that "
    )
    what += "cannot route. Load it at strength 1."
    parts = (
        f"{len(layers)} layers with experts became ordinary ones of rank {rank}, weights {settings.weights}; {plain} "
    )
    parts += f"ordinary layers are as they were; {len(tensors)} tensors, {_megabytes(tensors):.1f} MB."
    report = [what, parts, loss]
    if adapter.embeddings:
        report.append(f"Left out: the text embeddings in the file ({', '.join(adapter.embeddings)}).")
    return written, "\n".join(report)


def _check(name: str, adapter: Adapter) -> None:
    if not adapter.routed:
        raise AdapterError(
            f"{name} has no experts, expected a MoE-LoRA. It is an ordinary LoRA already: load it with Load LoRA "
            "(Model)."
        )
    unread = [adapter.keys[key] for key in adapter.plain if key.endswith((BIAS, MAGNITUDE))]
    if unread:
        raise AdapterError(
            f"{unread[0]} and {len(unread) - 1} more keys are a DoRA's or biases, which ComfyUI's own loader does not "
            "read in this form, expected plain LoRA layers beside the experts. Use the file with Load MoE-LoRA."
        )


def _usage(name: str, adapter: Adapter, settings: FlatSettings) -> AdapterUsage | None:
    if settings.usage is None:
        if settings.weights != "equal":
            raise ValueError(
                f"weights is {settings.weights!r}, which needs to know which experts work, and no usage is connected. "
                "Connect the usage of KSampler with Expert Usage, or set weights to 'equal'."
            )
        return None
    usage = settings.usage.of(adapter_identity(adapter.routed))
    if usage is None:
        raise ValueError(
            f"usage is of another file than {name}. Choose the file here that Load MoE-LoRA had when KSampler with "
            "Expert Usage ran."
        )
    return usage


def _flat(layer: RoutedWeights, settings: FlatSettings, usage: AdapterUsage | None) -> FlatLayer:
    own = None if usage is None else next((seen for seen in usage.layers if seen.path == layer.path), None)
    factors = ExpertFactors(layer.down, tuple(up.float() * layer.scale for up in layer.up))
    return flatten_layer(factors, settings.weights, settings.rank, own)


def _tensors(adapter: Adapter, layers: Sequence[FlatLayer]) -> dict[str, Tensor]:
    """All tensors of the new file; an ordinary LoRA on a layer that has experts too is put beside them."""
    plain, flat = dict(adapter.plain), {}
    for layer, found in zip(adapter.routed, layers, strict=True):
        down, up = found.down, found.up
        for name in (diffusers_name(layer.path), f"diffusion_model.{layer.path}"):
            if name + DOWN in plain:
                more, onto, alpha = plain.pop(name + DOWN), plain.pop(name + UP), plain.pop(name + ALPHA, None)
                scale = 1.0 if alpha is None else float(alpha) / len(more)
                down, up = torch.cat([down, more.float()]), torch.cat([up, onto.float() * scale], dim=1)
        name, dtype = diffusers_name(layer.path), layer.up[0].dtype
        flat |= {name + DOWN: down.to(dtype), name + UP: up.to(dtype)}
    return plain | flat


def _megabytes(tensors: Mapping[str, Tensor]) -> float:
    return sum(tensor.nbytes for tensor in tensors.values()) / 1e6
