"""The adapter as it is trained: LoRA and routed experts in float32, computing in the dtype of the activations."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .settings import AS_PUBLISHED, TrainingSettings
from .targets import TargetLayer

PREFIX = "transformer."
"""Before every layer's name in the published files."""


class TrainedLoRA(nn.Module):
    """An ordinary LoRA on a Linear; on a fused one, a LoRA for each part of its rows.

    `down` `(parts rank) in` has the matrices A of all parts, `up` the matrix B `rows rank` of each.
    """

    def __init__(self, target: TargetLayer, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.target, self.rank = target, rank
        self.down = nn.Parameter(_start(len(target.parts) * rank, target.inputs, generator=generator))
        self.up = nn.ParameterList(torch.zeros(rows, rank) for _, rows in target.parts)

    def forward(self, x: Tensor, base: Tensor) -> Tensor:
        """base `... out` of tokens x `... in`, with the LoRA added."""
        hidden = linear(x, self.down.to(x.dtype)).split(self.rank, dim=-1)
        parts = [linear(part, up.to(x.dtype)) for part, up in zip(hidden, self.up, strict=True)]
        return base + (parts[0] if len(parts) == 1 else torch.cat(parts, -1))

    def file_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors by their names in files; they share memory with the parameters."""
        for (name, _), down, up in zip(self.target.parts, self.down.split(self.rank), self.up, strict=True):
            yield f"{PREFIX}{name}.lora_A.weight", down.detach()
            yield f"{PREFIX}{name}.lora_B.weight", up.detach()


class PreciseLinear(torch.autograd.Function):
    """x `... in` times a weight `out in`, in the weight's dtype.

    What is kept for the backward pass is x as it is, which other products keep, too: float32 copies for all routers
    would be a third of what a training keeps.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return linear(x.to(weight.dtype), weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        of_weight = gradient.flatten(0, -2).T @ x.flatten(0, -2).to(weight.dtype)
        return (gradient @ weight).to(x.dtype), of_weight


@dataclass
class Repetition:
    """Whether a call is repeated in a backward pass. Layers share one: a module's own attributes take long to set."""

    is_on: bool = False


class TrainedExperts(nn.Module):
    """Experts on a Linear, of which each token uses the `top_k` with the highest router probability (paper 3.2).

    `down` `experts rank in`, `up` `experts out rank`, `router` `experts in`. The kept experts are weighted as at
    inference, by a softmax over them alone. With one kept expert that is 1 whatever the router says, so no gradient
    reaches the router. A learned router therefore gets the gradient of the kept experts' probability among all.
    `balance` and `share` are of the last call: the balance term, and each expert's share of the tokens.
    """

    def __init__(self, target: TargetLayer, settings: TrainingSettings, generator: torch.Generator) -> None:
        super().__init__()
        experts, rank = settings.experts, settings.rank
        self.target, self.top_k, self.learned = target, settings.top_k, settings.router != AS_PUBLISHED
        self.down = nn.Parameter(_start(experts, rank, target.inputs, generator=generator))
        self.up = nn.Parameter(torch.zeros(experts, target.outputs, rank))
        self.router = nn.Parameter(_start(experts, target.inputs, generator=generator))
        self.balance, self.share = torch.zeros(()), torch.zeros(experts)
        self.repetition = Repetition()

    def forward(self, x: Tensor, base: Tensor) -> Tensor:
        """base `... out` of tokens x `... in`, with the kept experts added."""
        weights = self._weights(x)
        hidden = linear(x, self.down.flatten(0, 1).to(x.dtype)).unflatten(-1, self.down.shape[:2])
        hidden = (hidden * weights[..., None].to(x.dtype)).flatten(-2)
        return base + linear(hidden, self.up.permute(1, 0, 2).flatten(1).to(x.dtype))

    def _weights(self, x: Tensor) -> Tensor:
        # Routed in float32 as at inference: rounding flips experts.
        with torch.autocast(x.device.type, enabled=False):
            logits = cast(Tensor, PreciseLinear.apply(x, self.router))
        probability = logits.softmax(-1)
        kept, index = logits.topk(self.top_k, -1)
        used = torch.zeros_like(probability).scatter(-1, index, 1.0)
        share = used.flatten(0, -2).mean(0) / self.top_k
        balance = len(share) * (share * probability.flatten(0, -2).mean(0)).sum()
        if not self.repetition.is_on:
            self.balance, self.share = balance, share.detach()
        if not self.learned:
            return torch.zeros_like(probability).scatter(-1, index, kept.softmax(-1))
        probability = probability * used
        return probability / probability.sum(-1, keepdim=True).detach()

    def file_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors by their names in files; they share memory with the parameters."""
        name = f"{PREFIX}{self.target.parts[0][0]}"
        for index, (down, up) in enumerate(zip(self.down, self.up, strict=True)):
            yield f"{name}.lora_A.expert_{index}.weight", down.detach()
            yield f"{name}.lora_B.expert_{index}.weight", up.detach()
        yield f"{name}.lora_route.weight", self.router.detach()


def _start(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=generator) * shape[-1] ** -0.5


class TrainedAdapter(nn.Module):
    """An adapter in training: a layer for each target, in the targets' order."""

    def __init__(self, targets: Sequence[TargetLayer], settings: TrainingSettings) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(settings.seed)
        self.targets = tuple(targets)
        self.layers = nn.ModuleList(
            TrainedExperts(target, settings, generator)
            if target.routed
            else TrainedLoRA(target, settings.rank, generator)
            for target in targets
        )
        self._repetition = Repetition()
        for layer in self.experts:
            layer.repetition = self._repetition

    @property
    def experts(self) -> list[TrainedExperts]:
        return [layer for layer in self.layers if isinstance(layer, TrainedExperts)]

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """For calls that are repeated in a backward pass: they leave nothing behind. A balance term would keep their
        graph, and with it every inner value that was not to be kept."""
        self._repetition.is_on = True
        try:
            yield
        finally:
            self._repetition.is_on = False

    def balance(self) -> Tensor:
        """Of the last call: 1 when all experts of every layer were used equally, more otherwise."""
        return torch.stack([layer.balance for layer in self.experts]).mean()

    def file_tensors(self) -> dict[str, Tensor]:
        """The adapter by the keys of the published files; the tensors share memory with the parameters."""
        return {key: tensor for layer in self.layers for key, tensor in layer.file_tensors()}  # pyright: ignore
