"""LoRA and LoRA-MoE on a FLUX written for autograd: what the trainer's gradients are compared with."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from icedit.mini.flux import Flux
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils import parametrize


@dataclass(frozen=True)
class _Target:
    """A fused Linear and the names and row counts of its parts in adapter files."""

    path: str
    parts: tuple[tuple[str, int], ...]


def _targets(model: Flux) -> Iterator[_Target]:
    hidden = model.img_in.out_features
    attention = tuple((f"attn.to_{part}", hidden) for part in "qkv")
    yield _Target("img_in", (("x_embedder", hidden),))
    for index in range(len(model.double_blocks)):
        own, file = f"double_blocks.{index}.img", f"transformer_blocks.{index}"
        yield _Target(f"{own}.attn.qkv", tuple((f"{file}.{name}", rows) for name, rows in attention))
        yield _Target(f"{own}.attn.proj", ((f"{file}.attn.to_out.0", hidden),))
        yield _Target(f"{own}.mod.lin", ((f"{file}.norm1.linear", 6 * hidden),))
    for index in range(len(model.single_blocks)):
        own, file = f"single_blocks.{index}", f"single_transformer_blocks.{index}"
        parts = (*attention, ("proj_mlp", 4 * hidden))
        yield _Target(f"{own}.linear1", tuple((f"{file}.{name}", rows) for name, rows in parts))
        yield _Target(f"{own}.modulation.lin", ((f"{file}.norm.linear", 3 * hidden),))


def _routed(model: Flux) -> Iterator[tuple[str, str]]:
    """The Linears that get experts: their paths in the model and their names in adapter files."""
    for index in range(len(model.double_blocks)):
        yield f"double_blocks.{index}.img.mlp.2", f"transformer_blocks.{index}.ff.net.2"
    for index in range(len(model.single_blocks)):
        yield f"single_blocks.{index}.linear2", f"single_transformer_blocks.{index}.proj_out"


class _PlainLoRA(nn.Module):
    """A parametrization of a fused weight, with one LoRA for each part of its rows."""

    def __init__(self, target: _Target, inputs: int, rank: int) -> None:
        super().__init__()
        self.names = [name for name, _ in target.parts]
        self.down = nn.ParameterList(torch.randn(rank, inputs) * inputs**-0.5 for _ in target.parts)
        self.up = nn.ParameterList(torch.zeros(rows, rank) for _, rows in target.parts)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + torch.cat([up @ down for up, down in zip(self.up, self.down, strict=True)])

    def file_state(self) -> Iterator[tuple[str, Tensor]]:
        for name, down, up in zip(self.names, self.down, self.up, strict=True):
            yield f"transformer.{name}.lora_A.weight", down.detach()
            yield f"transformer.{name}.lora_B.weight", up.detach()


class RoutedLinear(nn.Module):
    """A frozen Linear with experts: each token uses the one with the highest router probability (paper section 3.2).

    The chosen expert is weighted with 1, but the gradient is that of its probability, so that the router learns.
    """

    def __init__(self, base: nn.Linear, name: str, rank: int, experts: int) -> None:
        super().__init__()
        self.base, self.name = base, name
        inputs, outputs = base.in_features, base.out_features
        self.down = nn.Parameter(torch.randn(experts, rank, inputs) * inputs**-0.5)
        self.up = nn.Parameter(torch.zeros(experts, outputs, rank))
        self.router = nn.Parameter(torch.randn(experts, inputs) * inputs**-0.5)
        self.balance = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            probability = linear(x.float(), self.router).softmax(-1)
        kept, index = probability.max(-1, keepdim=True)
        gate = torch.zeros_like(probability).scatter(-1, index, kept / kept.detach())
        share = torch.zeros_like(probability).scatter(-1, index, 1.0).flatten(0, -2).mean(0)
        self.balance = len(share) * (share * probability.flatten(0, -2).mean(0)).sum()
        hidden = linear(x, self.down.flatten(0, 1)).unflatten(-1, self.down.shape[:2])
        routed = (hidden * gate[..., None].to(hidden.dtype)).flatten(-2)
        return self.base(x) + linear(routed, self.up.permute(1, 0, 2).flatten(1))

    def file_state(self) -> Iterator[tuple[str, Tensor]]:
        name = f"transformer.{self.name}"
        for index, (down, up) in enumerate(zip(self.down, self.up, strict=True)):
            yield f"{name}.lora_A.expert_{index}.weight", down.detach()
            yield f"{name}.lora_B.expert_{index}.weight", up.detach()
        yield f"{name}.lora_route.weight", self.router.detach()


def add_lora(model: Flux, rank: int) -> None:
    """Freeze the model and put an ordinary LoRA on it."""
    model.requires_grad_(False)
    for target in _targets(model):
        layer = model.get_submodule(target.path)
        assert isinstance(layer, nn.Linear)
        parametrize.register_parametrization(layer, "weight", _PlainLoRA(target, layer.in_features, rank))


def add_experts(model: Flux, rank: int, experts: int) -> None:
    """Put routed experts on a model that has been frozen by `add_lora`."""
    for path, name in list(_routed(model)):
        parent, _, attribute = path.rpartition(".")
        base = model.get_submodule(path)
        assert isinstance(base, nn.Linear)
        setattr(model.get_submodule(parent), attribute, RoutedLinear(base, name, rank, experts))


def balance_loss(model: Flux) -> Tensor:
    """1 when all experts of every layer are used equally, more otherwise."""
    layers = [layer for layer in model.modules() if isinstance(layer, RoutedLinear)]
    return torch.stack([layer.balance for layer in layers]).mean()


def file_state(model: Flux) -> dict[str, Tensor]:
    """The adapter's tensors by their names in the published files."""
    adapters = [part for part in model.modules() if isinstance(part, _PlainLoRA | RoutedLinear)]
    return {key: value for part in adapters for key, value in part.file_state()}
