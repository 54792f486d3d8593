"""Reading an adapter file: every key is understood and sound, or the whole file is refused."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import FileError
from .flux_keys import RoutedKey, alpha_layer, plain_name, routed_key, routed_path
from .layer import split_router

SUFFIXES = (".safetensors", ".sft")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
DOWNLOAD = "Download the file again, for the paper's from huggingface.co/sanaka87/ICEdit-MoE-LoRA."


@dataclass(frozen=True)
class RoutedWeights:
    """The tensors of one routed layer.

    Attributes:
        name: the layer in the file's words.
        path: the layer in the host's diffusion model.
        down: each expert's A, `rank in`.
        up: each expert's B, `out rank`.
        router: `experts in`, without bias.
        alpha: None means alpha = rank, so scale 1.

    Raises:
        FileError: the shapes do not make a layer.
    """

    name: str
    path: str
    down: tuple[Tensor, ...]
    up: tuple[Tensor, ...]
    router: Tensor
    alpha: float | None = None

    def __post_init__(self) -> None:
        first = f"{self.name}.lora_A.expert_0.weight"
        if self.down[0].ndim != 2 or 0 in self.down[0].shape:
            raise FileError(_wrong_shape(first, self.down[0], "[rank, inputs]"))
        if self.up[0].ndim != 2 or 0 in self.up[0].shape:
            raise FileError(_wrong_shape(f"{self.name}.lora_B.expert_0.weight", self.up[0], "[outputs, rank]"))
        expected = [(f"{self.name}.lora_route.weight", self.router, (self.experts, self.in_features))]
        for index, (down, up) in enumerate(zip(self.down, self.up, strict=True)):
            expected.append((f"{self.name}.lora_A.expert_{index}.weight", down, (self.rank, self.in_features)))
            expected.append((f"{self.name}.lora_B.expert_{index}.weight", up, (self.out_features, self.rank)))
        for key, tensor, shape in expected:
            if tensor.shape != shape:
                raise FileError(
                    _wrong_shape(key, tensor, f"{list(shape)}, as {first} has it for {self.experts} experts")
                )
            if tensor.dtype not in DTYPES:
                raise FileError(
                    f"{key} is stored as {_dtype(tensor.dtype)}, expected float32, float16 or bfloat16. {DOWNLOAD}"
                )

    @property
    def experts(self) -> int:
        return len(self.down)

    @property
    def rank(self) -> int:
        return self.down[0].shape[0]

    @property
    def in_features(self) -> int:
        return self.down[0].shape[1]

    @property
    def out_features(self) -> int:
        return self.up[0].shape[0]

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @property
    def parameters(self) -> int:
        return sum(tensor.numel() for tensor in (*self.down, *self.up, self.router))

    def stacked(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The two weights of a `layer.RoutedLoRA`: all A over the split router, and all B side by side."""
        down = [tensor.to(dtype) for tensor in (*self.down, split_router(self.router))]
        return torch.cat(down), torch.cat([tensor.to(dtype) for tensor in self.up], dim=1)


@dataclass(frozen=True)
class Adapter:
    """A whole adapter file.

    Attributes:
        plain: the tensors of ordinary LoRA layers, in names that the host knows.
        routed: the layers with experts; none for an ordinary LoRA file.
        keys: name in `plain` -> key in the file, for messages.
    """

    plain: Mapping[str, Tensor]
    routed: tuple[RoutedWeights, ...]
    keys: Mapping[str, str]

    @cached_property
    def plain_parameters(self) -> int:
        return sum(tensor.numel() for tensor in self.plain.values())

    @cached_property
    def routed_parameters(self) -> int:
        return sum(layer.parameters for layer in self.routed)


def read_adapter(path: Path) -> Adapter:
    """Read and check a safetensors file. Tensors stay on disk (memory-mapped) until they are used.

    Raises:
        FileError: unreadable, incomplete, unsound, or holding something that is not understood.
    """
    return parse_adapter(read_tensors(path))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU.

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
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
    except FileNotFoundError as error:
        raise FileError(f"{path.name} is no longer there. Refresh the list of files (R) and choose another.") from error
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise FileError(
            f"{path.name} cannot be read as safetensors ({error}). It is damaged, not completely downloaded, or a "
            f"file of another kind under this name. {DOWNLOAD}"
        ) from error


def parse_adapter(tensors: Mapping[str, Tensor]) -> Adapter:
    """Sort a file's tensors into ordinary and routed layers.

    Raises:
        FileError: names the first key that is wrong, with what was found and what was expected.
    """
    if not tensors:
        raise FileError(f"The file holds no tensors at all. {DOWNLOAD}")
    for key, tensor in tensors.items():
        _check_values(key, tensor)
        if alpha_layer(key) is not None and tensor.numel() != 1:
            raise FileError(_wrong_shape(key, tensor, "one number"))
    routed = {key: part for key in tensors if (part := routed_key(key)) is not None}
    layers = {part.layer for part in routed.values()}
    alphas = {key: layer for key in tensors if key not in routed and (layer := alpha_layer(key)) in layers}
    plain = {key: tensor for key, tensor in tensors.items() if key not in routed and key not in alphas}
    names = _unique((key, plain_name(key)) for key in plain)
    return Adapter(
        plain={name: plain[key] for name, key in names.items()},
        routed=_routed_layers(tensors, routed, alphas),
        keys=names,
    )


def _check_values(key: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    # One pass over memory; isfinite would take several. 8-bit floats know no minimum.
    low, high = torch.aminmax(tensor if tensor.dtype.itemsize > 1 else tensor.float())
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise FileError(
            f"{key} contains NaN or infinite values, expected finite numbers. The file is damaged. {DOWNLOAD}"
        )


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
    tensors: Mapping[str, Tensor], routed: Mapping[str, RoutedKey], alphas: Mapping[str, str | None]
) -> tuple[RoutedWeights, ...]:
    layers: dict[str, dict[tuple[str, int | None], str]] = {}
    for key, part in routed.items():
        path = routed_path(part.layer)
        if path is None:
            raise FileError(
                f"{key} puts experts on {part.layer}, expected them on transformer_blocks.N.ff.net.2 and "
                "single_transformer_blocks.N.proj_out of FLUX.1 only. This is no ICEdit MoE-LoRA."
            )
        if (part.part == "route") != (part.expert is None):
            raise FileError(f"{key} is a router for a single expert, expected one router for the layer. {DOWNLOAD}")
        parts = layers.setdefault(path, {})
        other = parts.setdefault((part.part, part.expert), key)
        if other != key:
            raise FileError(f"{other} and {key} are two names of the same weight, expected one. {DOWNLOAD}")
    scales = _unique((key, routed_path(layer or "") or key) for key, layer in alphas.items())
    return tuple(_routed_layer(path, tensors, parts, scales.get(path)) for path, parts in layers.items())


def _routed_layer(
    path: str, tensors: Mapping[str, Tensor], parts: Mapping[tuple[str, int | None], str], alpha: str | None
) -> RoutedWeights:
    some = routed_key(next(iter(parts.values())))
    name = some.layer if some else path
    experts = 1 + max((index for _, index in parts if index is not None), default=-1)
    if experts == 0:
        raise FileError(f"{name}.lora_route.weight routes to experts, but the layer has none in this file. {DOWNLOAD}")
    wanted = [("A", index) for index in range(experts)] + [("B", index) for index in range(experts)]
    missing = [f"{name}.lora_{part}.expert_{index}.weight" for part, index in wanted if (part, index) not in parts]
    if ("route", None) not in parts:
        missing.append(f"{name}.lora_route.weight")
    if missing:
        raise FileError(
            f"{', '.join(missing[:4])} missing, expected {experts} experts and one router there. {DOWNLOAD}"
        )
    weights = [tensors[parts[part]] for part in wanted]
    return RoutedWeights(
        name=name,
        path=path,
        down=tuple(weights[:experts]),
        up=tuple(weights[experts:]),
        router=tensors[parts["route", None]],
        alpha=None if alpha is None else float(tensors[alpha]),
    )


def _wrong_shape(key: str, tensor: Tensor, expected: str) -> str:
    return f"{key} has the shape {list(tensor.shape)}, expected {expected}. {DOWNLOAD}"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
