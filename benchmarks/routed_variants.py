"""Other ways to compute a routed layer than ours, to measure them beside it.

Each way takes a `moe_lora.layer.RoutedLoRA`, tokens x and the Linear's result, and returns what the layer returns.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

Variant = Callable[..., Any]


def papers(layer: Any, x: Any, base: Any, strength: float = 1.0, top_k: int = 1, observe: None = None) -> Any:  # noqa: ARG001
    """As the paper computes it: every expert for every token, the unchosen multiplied by 0, the router in x's dtype."""
    from icedit.moe_lora.layer import routing_weights
    from torch.nn.functional import linear

    down, router, up = _weights(layer, x)
    shares = (routing_weights(linear(x, router.to(x.dtype)).float(), top_k) * (layer.scale * strength)).to(x.dtype)
    for expert in range(layer.experts):
        part = slice(expert * layer.rank, (expert + 1) * layer.rank)
        base = base + linear(linear(x, down[part]), up[:, part]) * shares[..., expert : expert + 1]
    return base


def all_experts(layer: Any, x: Any, base: Any, strength: float = 1.0, top_k: int = 1, observe: None = None) -> Any:  # noqa: ARG001
    """Two products for all experts, also where most of the first one is not needed."""
    from icedit.moe_lora.layer import routing_weights

    hidden, logits = layer.down(x, layer.experts)
    weights = routing_weights(logits, top_k, layer.scale * strength)
    hidden = hidden.unflatten(-1, (layer.experts, layer.rank)) * weights.unsqueeze(-1)
    return layer.up(hidden.flatten(-2).to(base.dtype), base)


def grouped(layer: Any, x: Any, base: Any, strength: float = 1.0, top_k: int = 1, observe: None = None) -> Any:  # noqa: ARG001
    """Tokens sorted by expert, and one grouped matrix product for each of A and B; nothing waits for the device."""
    import torch
    from icedit.moe_lora.layer import routing_weights
    from torch.nn.functional import grouped_mm, linear

    down, router, up = _weights(layer, x)
    tokens = x.reshape(-1, x.shape[-1])
    weights = routing_weights(linear(tokens.float(), router), top_k, layer.scale * strength)
    kept = weights.topk(top_k).indices.flatten()
    order = kept.argsort()
    rows, numbers = order // top_k, torch.arange(layer.experts, device=x.device)
    ends = torch.searchsorted(kept[order], numbers, right=True).to(torch.int32)
    stacked_down = down.unflatten(0, (layer.experts, layer.rank))
    stacked_up = up.unflatten(1, (layer.experts, layer.rank)).movedim(1, 0).contiguous()
    hidden = grouped_mm(tokens[rows], stacked_down.mT, offs=ends)
    hidden = hidden * weights[rows, kept[order]].unsqueeze(-1).to(hidden.dtype)
    flat = base.reshape(-1, base.shape[-1])
    return flat.index_add(0, rows, grouped_mm(hidden.to(base.dtype), stacked_up.mT, offs=ends)).view(base.shape)


def _weights(layer: Any, x: Any) -> tuple[Any, Any, Any]:
    """All A and all B as the layer keeps them, and the router in float32, on the device of x."""
    from icedit.moe_lora.layer import ROUTER_PARTS

    weight = layer.down.weight.to(x.device)
    rows = layer.experts * layer.rank
    router = weight[rows:].float().unflatten(0, (ROUTER_PARTS, layer.experts)).sum(0)
    return weight[:rows], router, layer.up.weight.to(x.device)


VARIANTS: dict[str, Variant] = {"papers": papers, "all_experts": all_experts, "grouped": grouped}


def random_routed(inputs: int, outputs: int, rank: int, experts: int) -> Any:
    """Weights of one routed layer."""
    import torch
    from icedit.moe_lora.checkpoint import RoutedWeights

    draw = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> Any:
        return torch.randn(rows, columns, generator=draw) * columns**-0.5

    return RoutedWeights(
        name="layer",
        path="layer",
        down=tuple(matrix(rank, inputs) for _ in range(experts)),
        up=tuple(matrix(outputs, rank) for _ in range(experts)),
        router=matrix(experts, inputs),
    )


@contextmanager
def computed_as(experts: Any, variant: Variant) -> Iterator[None]:
    """The routed layers of a loaded adapter (`host.moe_lora.experts.RoutedExperts`) compute in this way meanwhile."""
    for layer in experts.layers:
        layer.forward = partial(variant, layer)
    try:
        yield
    finally:
        for layer in experts.layers:
            del layer.forward
