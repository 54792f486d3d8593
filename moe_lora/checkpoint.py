"""Reading an adapter file: every key is understood and sound, or the whole file is refused."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from .errors import DOWNLOAD, FileError, wrong_shape
from .files import mapped_tensors
from .flux_keys import RoutedKey, alpha_layer, routed_key, routed_path
from .header import AdapterHeader, trained_top_k
from .layouts import (
    ALPHA,
    BIAS,
    DOWN,
    MAGNITUDE,
    UP,
    HostLayout,
    bundled_embedding,
    host_layout,
    plain_name,
    read_key,
)  # fmt: skip
from .random_start import RouterStart, router_start
from .routed import RoutedKeys, RoutedWeights


@dataclass(frozen=True)
class Adapter:
    """A whole adapter file.

    Attributes:
        plain: the tensors of ordinary LoRA layers, in names that the host knows; alphas from the header among them.
        routed: the layers with experts; none for an ordinary LoRA file.
        keys: name in `plain` -> key in the file, for messages.
        tensors: how many there are in the file.
        layout: set when the host has to convert `plain` as a whole.
        embeddings: names of the text embeddings in the file; they are no part of a diffusion model.
        header_alphas: how many layers have their alpha from the file's header.
        top_k: how many experts worked on each token in training; None where the file does not say.
    """

    plain: Mapping[str, Tensor]
    routed: tuple[RoutedWeights, ...]
    keys: Mapping[str, str]
    tensors: int = 0
    layout: HostLayout | None = None
    embeddings: tuple[str, ...] = ()
    header_alphas: int = 0
    top_k: int | None = None

    @cached_property
    def plain_parameters(self) -> int:
        return sum(tensor.numel() for tensor in self.plain.values())

    @cached_property
    def routed_parameters(self) -> int:
        return sum(layer.parameters for layer in self.routed)

    @cached_property
    def start(self) -> RouterStart:
        """Whether the routers were trained."""
        return router_start([layer.router for layer in self.routed])

    def in_memory(self) -> "Adapter":
        """A copy that does not need the file."""
        plain = {name: tensor.clone() for name, tensor in self.plain.items()}
        return replace(self, plain=plain, routed=tuple(layer.in_memory() for layer in self.routed))


def read_adapter(path: Path) -> Adapter:
    """Read and check a safetensors file. The file is free afterwards: it may be replaced or overwritten.

    Raises:
        FileError: unreadable, incomplete, unsound, or holding something that is not understood.
    """
    try:
        return _copied(path)
    except FileError as error:
        # Its traceback's frames hold tensors, which keep the file mapped; a bad file must be free to be replaced.
        raise error.with_traceback(None) from error.__cause__


def _copied(path: Path) -> Adapter:
    return parse_adapter(*mapped_tensors(path)).in_memory()


def parse_adapter(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Adapter:
    """Sort a file's tensors into ordinary and routed layers.

    Raises:
        FileError: names the first key that is wrong, with what was found and what was expected.
    """
    if not tensors:
        raise FileError(f"The file holds no tensors at all. {DOWNLOAD}")
    for key, tensor in tensors.items():
        _check_values(key, tensor)
        if alpha_layer(key) is not None and tensor.numel() != 1:
            raise FileError(wrong_shape(key, tensor, "one number"))
    layout = host_layout(tensors)
    if layout is not None:
        return Adapter(tensors, (), {key: key for key in tensors}, len(tensors), layout)
    _check_one_adapter(tensors)
    header = AdapterHeader.read(metadata)
    embeddings = {key: name for key in tensors if (name := bundled_embedding(key)) is not None}
    routed = {key: part for key in tensors if (part := routed_key(key)) is not None}
    layers = {part.layer for part in routed.values()}
    alphas = {key: layer for key in tensors if key not in routed and (layer := alpha_layer(key)) in layers}
    if len(embeddings) == len(tensors):
        raise FileError("The file holds text embeddings only, no LoRA. Put it into models/embeddings.")
    plain = [key for key in tensors if not (key in routed or key in alphas or key in embeddings)]
    names = _unique((key, plain_name(key)) for key in plain)
    named = {name: tensors[key] for name, key in names.items()}
    _check_pairs(named, names)
    added = _header_alphas(named, names, header)
    routed_layers = _routed_layers(tensors, routed, alphas, header)
    from_header = sum(layer.alpha is not None for layer in routed_layers) - len(alphas)
    return Adapter(
        plain=named | added,
        routed=routed_layers,
        keys=names,
        tensors=len(tensors),
        embeddings=tuple(sorted(set(embeddings.values()))),
        header_alphas=len(added) + from_header,
        top_k=trained_top_k(metadata),
    )


def _check_values(key: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    # One pass over memory; isfinite would take several. torch has no minimum of 8-bit floats.
    low, high = torch.aminmax(tensor if tensor.dtype.itemsize > 1 else tensor.float())
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise FileError(
            f"{key} contains NaN or infinite values, expected finite numbers. The file is damaged. {DOWNLOAD}"
        )


def _check_one_adapter(keys: Iterable[str]) -> None:
    adapters = {part.adapter for key in keys if (part := routed_key(key) or read_key(key)) is not None} - {None}
    if len(adapters) > 1:
        names = ", ".join(sorted(map(str, adapters))[:4])
        raise FileError(
            f"The file holds {len(adapters)} adapters ({names}), expected one. Save each in a file of its own (in "
            "PEFT: save_pretrained with selected_adapters)."
        )


def _check_pairs(named: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """Refuse half of a pair, and what belongs to a pair without it; the host would ignore it or raise a KeyError."""
    for name, key in names.items():
        for part, needed in ((DOWN, (UP,)), (UP, (DOWN,)), (BIAS, (DOWN, UP)), (MAGNITUDE, (DOWN, UP))):
            missing = [other for other in needed if name.removesuffix(part) + other not in named]
            if name.endswith(part) and missing:
                raise FileError(
                    f"{key} is in the file without {name.removesuffix(part)}{missing[0]}, which belongs to it, "
                    f"expected both. {DOWNLOAD}"
                )


def _header_alphas(named: Mapping[str, Tensor], names: Mapping[str, str], header: AdapterHeader) -> dict[str, Tensor]:
    """Alphas that only the header gives. An alpha among the tensors counts more, for its layer."""
    added = {}
    for name, tensor in named.items():
        base = name.removesuffix(DOWN)
        if base == name or base + ALPHA in named or tensor.ndim == 0:
            continue
        layer, rank = base.partition(".")[2], tensor.shape[0]
        alpha, said = header.alpha_of(layer, rank), header.rank_of(layer)
        if alpha is None:
            continue
        if said is not None and said != rank:
            raise FileError(
                f"{names[name]} has rank {rank}, but the file's header says {said:g}, so nobody can know which scale "
                "its alpha means, expected the same. Save the file again with diffusers."
            )
        added[base + ALPHA] = torch.tensor(alpha)
    return added


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    names: dict[str, str] = {}
    for key, name in pairs:
        if name in names:
            raise FileError(
                f"{names[name]} and {key} are two names of the same weight, expected one. The file was put together "
                f"wrongly. {DOWNLOAD}"
            )
        names[name] = key
    return names


def _routed_layers(
    tensors: Mapping[str, Tensor],
    routed: Mapping[str, RoutedKey],
    alphas: Mapping[str, str | None],
    header: AdapterHeader,
) -> tuple[RoutedWeights, ...]:
    layers: dict[str, RoutedKeys] = {}
    for key, part in routed.items():
        path = routed_path(part.layer)
        if path is None:
            raise FileError(
                f"{key} puts experts on {part.layer}, expected them on transformer_blocks.N.ff.net.2 and "
                "single_transformer_blocks.N.proj_out of FLUX.1 only. This is no ICEdit MoE-LoRA."
            )
        layers.setdefault(path, RoutedKeys(part.layer, path)).add(key, part)
    scales = _unique((key, routed_path(layer or "") or key) for key, layer in alphas.items())
    given = {path: float(tensors[key]) for path, key in scales.items()}
    return tuple(_with_alpha(keys.weights(tensors), given.get(path), header) for path, keys in layers.items())


def _with_alpha(layer: RoutedWeights, alpha: float | None, header: AdapterHeader) -> RoutedWeights:
    return replace(layer, alpha=header.alpha_of(layer.name, layer.rank) if alpha is None else alpha)
