"""The tensors of one routed layer: found by their keys, and checked."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .errors import DOWNLOAD, FileError, wrong_shape
from .flux_keys import RoutedKey
from .layer import split_router

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


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
        stack: what `stacked` returns for the dtype of the tensors, where they are views of it.

    Raises:
        FileError: the shapes do not make a layer.
    """

    name: str
    path: str
    down: tuple[Tensor, ...]
    up: tuple[Tensor, ...]
    router: Tensor
    alpha: float | None = None
    stack: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        first = f"{self.name}.lora_A.expert_0.weight"
        if self.down[0].ndim != 2 or 0 in self.down[0].shape:
            raise FileError(wrong_shape(first, self.down[0], "[rank, inputs]"))
        if self.up[0].ndim != 2 or 0 in self.up[0].shape:
            raise FileError(wrong_shape(f"{self.name}.lora_B.expert_0.weight", self.up[0], "[outputs, rank]"))
        expected = [(f"{self.name}.lora_route.weight", self.router, (self.experts, self.in_features))]
        for index, (down, up) in enumerate(zip(self.down, self.up, strict=True)):
            expected.append((f"{self.name}.lora_A.expert_{index}.weight", down, (self.rank, self.in_features)))
            expected.append((f"{self.name}.lora_B.expert_{index}.weight", up, (self.out_features, self.rank)))
        for key, tensor, shape in expected:
            if tensor.shape != shape:
                raise FileError(
                    wrong_shape(key, tensor, f"{list(shape)}, as {first} has it for {self.experts} experts")
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
        if self.stack is not None and self.stack[0].dtype == dtype:
            return self.stack
        down = [tensor.to(dtype) for tensor in (*self.down, split_router(self.router))]
        return torch.cat(down), torch.cat([tensor.to(dtype) for tensor in self.up], dim=1)

    def in_memory(self) -> "RoutedWeights":
        """A copy that does not need the file. Where the dtypes allow it, it is stacked, so `stacked` copies nothing."""
        dtypes = {tensor.dtype for tensor in (*self.down, *self.up)}
        if len(dtypes) > 1:
            down, up = (tuple(tensor.clone() for tensor in tensors) for tensors in (self.down, self.up))
            return replace(self, down=down, up=up, router=self.router.clone())
        stack = self.stacked(dtypes.pop())
        down, up = stack[0][: self.experts * self.rank].split(self.rank), stack[1].split(self.rank, dim=1)
        return replace(self, down=down, up=up, router=self.router.clone(), stack=stack)


@dataclass
class RoutedKeys:
    """The keys of one routed layer, collected one by one.

    Attributes:
        name, path: see `RoutedWeights`.
        down, up: the keys of A and B by the number of their expert.
        router: the key of the router.
    """

    name: str
    path: str
    down: dict[int, str] = field(default_factory=dict)
    up: dict[int, str] = field(default_factory=dict)
    router: str | None = None

    def add(self, key: str, part: RoutedKey) -> None:
        """Take a key of this layer.

        Raises:
            FileError: a router with an expert's number, or a second key for the same tensor.
        """
        if part.part == "route":
            if part.expert is not None:
                raise FileError(f"{key} is a router for a single expert, expected one router for the layer. {DOWNLOAD}")
            self.router = other = self.router or key
        else:
            assert part.expert is not None
            other = (self.down if part.part == "A" else self.up).setdefault(part.expert, key)
        if other != key:
            raise FileError(f"{other} and {key} are two names of the same weight, expected one. {DOWNLOAD}")

    def weights(self, tensors: Mapping[str, Tensor]) -> RoutedWeights:
        """The layer, from the file's tensors.

        Raises:
            FileError: it is not complete, or the shapes do not make a layer.
        """
        experts = range(1 + max((*self.down, *self.up), default=-1))
        if not experts:
            raise FileError(
                f"{self.name}.lora_route.weight routes to experts, but the layer has none in this file. {DOWNLOAD}"
            )
        missing = [
            f"{self.name}.lora_{part}.expert_{index}.weight"
            for part, keys in (("A", self.down), ("B", self.up))
            for index in experts
            if index not in keys
        ]
        if self.router is None or missing:
            missing += [f"{self.name}.lora_route.weight"] if self.router is None else []
            raise FileError(
                f"{', '.join(missing[:4])} missing, expected {len(experts)} experts and one router there. {DOWNLOAD}"
            )
        down, up = (tuple(tensors[keys[index]] for index in experts) for keys in (self.down, self.up))
        return RoutedWeights(self.name, self.path, down, up, tensors[self.router])


def adapter_identity(layers: Iterable[RoutedWeights]) -> str:
    """By which the adapter that these layers belong to is known again: 16 characters from some of its values."""
    digest = hashlib.sha256()
    for layer in layers:
        for tensor in (layer.router, layer.down[0][0], layer.up[0][0]):
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
