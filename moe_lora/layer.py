"""One routed layer: every token picks its experts (paper section 3.2).

y = base(x) + strength * sum over the kept experts e of softmax_e * B_e A_e x. As two matrix products: all experts' A
and the router in one, then all B side by side, with the routing weights applied to the hidden vector between them. A
CPU computes the A of the kept experts alone where that is faster.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

ROUTER_PARTS = 3
"""A float32 router is the sum of this many bfloat16 ones: 3 x 8 bits of mantissa."""


def split_router(router: Tensor) -> Tensor:
    """A router `experts in` as the stack `(parts experts) in` of bfloat16-exact summands, float32.

    Reduced precision then costs the weights nothing: rounding a router to bfloat16 flips experts.
    """
    rest, parts = router.float(), []
    for _ in range(ROUTER_PARTS):
        parts.append(rest.bfloat16().float())
        rest = rest - parts[-1]
    return torch.cat(parts)


def has_float32_product(device: torch.device) -> bool:
    """Whether a matrix product of half-precision tensors can leave its sums in float32 here, compiled or not.

    CUDA can since torch 2.8. torch.compile can trace the operator only where the meta device has it too (not in torch
    2.8: pytorch issues 159023 and 163275). Tried anew each time: it may fail for want of memory and work later.
    """
    return device.type == "cuda" and all(_multiplies_to_float32(where) for where in (torch.device("meta"), device))


def _multiplies_to_float32(device: torch.device) -> bool:
    try:
        sample = torch.ones(16, 16, dtype=torch.bfloat16, device=device)
        return torch.mm(sample, sample, out_dtype=torch.float32).dtype == torch.float32
    except (TypeError, RuntimeError):
        return False


def project(
    x: Tensor, weight: Tensor, experts: int, float32_product: bool = False, top_k: int | None = None
) -> tuple[Tensor, Tensor]:
    """The hidden vectors `... (experts rank)` and the router's float32 logits `... experts` of tokens `... in`.

    Args:
        x: tokens in any floating dtype.
        weight: `(experts rank + parts experts) in` in the dtype of x: all A, then the split router.
        experts: how many.
        float32_product: `has_float32_product` of this device; saves a second reading and a float32 copy of x.
        top_k: how many experts a token keeps; the hidden vectors of the others need not be computed and may be 0.
    """
    rows = weight.shape[0] - ROUTER_PARTS * experts
    if not float32_product or x.dtype == torch.float32:
        router = weight[rows:].float().unflatten(0, (ROUTER_PARTS, experts)).sum(0)
        logits = _float32_logits(x, router)
        if top_k is not None and _gathering_pays(x, top_k, experts):
            return _kept_hidden(x, weight[:rows], logits, top_k), logits
        return linear(x, weight[:rows]), logits
    product = torch.mm(x.reshape(-1, x.shape[-1]), weight.t(), out_dtype=torch.float32)
    hidden, parts = product.unflatten(0, x.shape[:-1]).split((rows, ROUTER_PARTS * experts), dim=-1)
    return hidden, parts.unflatten(-1, (ROUTER_PARTS, experts)).sum(-2)


STRIP = 64
"""Tokens that a CPU routes at a time: their float32 copies fit into its cache, 4 MB at FLUX's widest layer."""


GATHERED = 256
"""Tokens of one expert that are gathered at a time; otherwise all are copied where all keep the same expert."""


GATHERING_PAYS = 2**19
"""Elements of x from which on gathering an expert's tokens was faster in float32: 64 tokens at FLUX's widest layer."""


def _on_eager_cpu(x: Tensor) -> bool:
    """Whether tokens can be taken in parts: a compiler would unroll them, and CUDA would wait for their number."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _gathering_pays(x: Tensor, top_k: int, experts: int) -> bool:
    """Whether gathering the kept experts' tokens takes less than the products that it saves.

    It takes as long from half of the experts on, and in bfloat16, whose products are cheap on CPUs.
    """
    if not _on_eager_cpu(x) or x.dtype != torch.float32:
        return False
    return 2 * top_k < experts and x.numel() >= GATHERING_PAYS


def _kept_hidden(x: Tensor, down: Tensor, logits: Tensor, top_k: int) -> Tensor:
    """The hidden vectors `... (experts rank)` of the experts that each token keeps, 0 for the others."""
    experts = logits.shape[-1]
    tokens, kept = x.reshape(-1, x.shape[-1]), kept_experts(logits.reshape(-1, experts), top_k)
    hidden = x.new_zeros(len(tokens), experts, len(down) // experts)
    for expert, weight in enumerate(down.unflatten(0, (experts, -1))):
        for rows in (kept == expert).any(-1).nonzero().flatten().split(GATHERED):
            hidden[:, expert].index_copy_(0, rows, linear(tokens[rows], weight))
    return hidden.view(*x.shape[:-1], len(down))


def _float32_logits(x: Tensor, router: Tensor) -> Tensor:
    if x.dtype == torch.float32 or not _on_eager_cpu(x):
        return linear(x.float(), router)
    strips = x.reshape(-1, x.shape[-1]).split(STRIP)
    return torch.cat([linear(strip.float(), router) for strip in strips]).view(*x.shape[:-1], len(router))


def kept_experts(logits: Tensor, top_k: int) -> Tensor:
    """The numbers `... top_k` of the experts with the largest logits `... experts`."""
    return logits.argmax(-1, keepdim=True) if top_k == 1 else logits.topk(top_k, dim=-1).indices


def routing_weights(logits: Tensor, top_k: int, scale: float = 1.0) -> Tensor:
    """`scale` times the softmax over the `top_k` largest logits `... experts`, 0 for the others."""
    index = kept_experts(logits, top_k)
    # The softmax over one is 1. A fast GPU takes longer to start each of these small functions than to compute it.
    shares = scale if top_k == 1 else logits.gather(-1, index).softmax(-1) * scale
    return torch.zeros_like(logits).scatter(-1, index, shares)


def add_product(base: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
    """base `... out` + hidden `... (experts rank)` times the transpose of weight `out (experts rank)`, rounded once."""
    flat = base.reshape(-1, base.shape[-1])
    return torch.addmm(flat, hidden.reshape(-1, hidden.shape[-1]), weight.t()).view(base.shape)


class RoutedLoRA(nn.Module):
    """The experts and the router of one layer.

    Args:
        down: a module that returns `project(x, weight, experts, top_k=top_k)` for its weight, called with x, experts
            and top_k.
        up: a module that returns `add_product(base, hidden, weight)` for its weight, called with hidden and base.
        experts, rank: how many experts, and the rank of each.
        scale: alpha / rank.
    """

    def __init__(self, down: nn.Module, up: nn.Module, experts: int, rank: int, scale: float) -> None:
        super().__init__()
        self.down, self.up = down, up
        self.experts, self.rank, self.scale = experts, rank, scale

    def forward(
        self,
        x: Tensor,
        base: Tensor,
        strength: float = 1.0,
        top_k: int = 1,
        observe: Callable[[Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """base `... out` with this layer's part for the tokens x `... in` added, in the dtype of base.

        `observe` is called with the hidden vectors `... (experts rank)` and the routing weights `... experts`.
        """
        # Who observes wants the hidden vectors of all experts, not of the kept ones alone.
        hidden, logits = self.down(x, self.experts, top_k if observe is None else None)
        if observe is not None:
            observe(hidden, routing_weights(logits, top_k))
        weights = routing_weights(logits, top_k, self.scale * strength)
        hidden = hidden.unflatten(-1, (self.experts, self.rank)) * weights.unsqueeze(-1)
        return self.up(hidden.flatten(-2).to(base.dtype), base)
