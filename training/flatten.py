"""The best ordinary LoRA in place of a routed layer, for programs that cannot route.

A routed layer adds B (g h) with h = A x for all experts' A, B for all experts' B side by side, and g the routing
weights of that token. An ordinary LoRA adds B N h with one N for all tokens: the same share of each expert always (N
diagonal), or the N that is nearest to the routed layer over the tokens that were seen. Its rank is that of all experts
together; a smaller one is found from the factors alone, the product of B and A is never formed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .usage import HiddenMoments, LayerUsage

Weights = Literal["equal", "measured", "fitted"]

PRIOR_PICTURES = 4.0
"""So many pictures weigh as much as the assumption that nothing is known, when N is fitted. Tokens of one picture are
much alike; on mini_moe_lora this was near the best for fits to 6, 12 and 24 edits and tests on others."""


_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class ExpertFactors:
    """The experts of a layer: `down` is each one's A `rank in`, `up` each one's B `out rank`, with the scale in it."""

    down: tuple[Tensor, ...]
    up: tuple[Tensor, ...]

    @property
    def experts(self) -> int:
        return len(self.down)

    @property
    def rank(self) -> int:
        """Of all experts together."""
        return sum(len(down) for down in self.down)

    @property
    def all_down(self) -> Tensor:
        return torch.cat([down.float() for down in self.down])

    @property
    def all_up(self) -> Tensor:
        return torch.cat([up.float() for up in self.up], dim=1)


@dataclass(frozen=True)
class FlatLayer:
    """An ordinary LoRA in place of experts.

    Attributes:
        down, up: `rank in` and `out rank`, float32; the scale is 1.
        error: norm of what the layer adds minus what the routed layer adds, as a share of the norm of the latter; over
            the tokens that were seen, or where none were, over inputs without any direction that come to all experts
            alike.
    """

    down: Tensor
    up: Tensor
    error: float


def flatten_layer(factors: ExpertFactors, weights: Weights, rank: int, usage: LayerUsage | None) -> FlatLayer:
    """One ordinary LoRA for the experts of a layer.

    Args:
        factors: the experts.
        weights: "equal" shares, the "measured" ones, or "fitted" to the tokens that were seen.
        rank: of the result; 0, or more than all experts have, keeps all of it.
        usage: of this layer; needed unless the weights are equal.
    """
    # B = Q R: in R's coordinates every norm of outputs is the same, and small.
    outputs, inner = torch.linalg.qr(factors.all_up)
    inner = inner.double()
    moments = _moments(factors) if usage is None else usage.moments
    mixing = _mixing(factors, weights, usage)
    wanted = inner @ mixing
    if not 0 < rank < factors.rank:
        error = _error(inner, wanted, moments)
        if weights == "fitted":
            return FlatLayer(mixing.float() @ factors.all_down, factors.all_up, error)
        return FlatLayer(factors.all_down, factors.all_up * mixing.diagonal().float(), error)
    left = torch.linalg.svd(wanted @ _square_root(moments.plain)).U[:, :rank]
    kept = left.T @ wanted
    up, down = _balanced(outputs @ left.float(), kept.float() @ factors.all_down)
    return FlatLayer(down, up, _error(inner, left @ kept, moments))


def _mixing(factors: ExpertFactors, weights: Weights, usage: LayerUsage | None) -> Tensor:
    """N, `(experts rank) (experts rank)`."""
    rank = factors.rank // factors.experts
    if weights == "equal":
        return torch.full((factors.rank,), 1 / factors.experts, dtype=torch.float64).diag()
    if usage is None:
        raise ValueError(f"weights is {weights!r}, which needs a usage, expected one.")
    if weights == "measured":
        return usage.shares.double().repeat_interleave(rank).diag()
    return _fitted(usage.moments, _moments(factors), usage.pictures)


def _fitted(seen: HiddenMoments, unknown: HiddenMoments, pictures: int) -> Tensor:
    """The N nearest to the routed layer over what was seen and, the less was seen the more, over the unknown."""
    share = PRIOR_PICTURES / max(1, pictures) * seen.plain.trace() / unknown.plain.trace().clamp(min=_TINY)
    plain, crossed = seen.plain + share * unknown.plain, seen.crossed + share * unknown.crossed
    # Experts that never worked, or were never trained, leave directions without any hidden vector.
    return crossed @ torch.linalg.pinv(plain, rtol=1e-9, hermitian=True)


def _moments(factors: ExpertFactors) -> HiddenMoments:
    """Those of inputs without any direction that come to all experts alike."""
    plain = factors.all_down.double()
    plain = plain @ plain.T
    expert = torch.arange(factors.experts).repeat_interleave(factors.rank // factors.experts)
    own = (expert[:, None] == expert).double()
    return HiddenMoments(plain, plain / factors.experts, plain * own / factors.experts)


def _error(inner: Tensor, product: Tensor, moments: HiddenMoments) -> float:
    """The square root of E |R g h - P h|^2 / E |R g h|^2."""
    whole = (inner @ moments.routed * inner).sum()
    if whole <= 0:
        return 0.0
    left = (product @ moments.plain * product).sum() - 2 * (inner @ moments.crossed * product).sum()
    return float(((whole + left).clamp(min=0.0) / whole).sqrt())


def _square_root(moment: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(moment)
    return vectors * values.clamp(min=0.0).sqrt()


def _balanced(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """The same product with both factors of one size in every direction: half precision has a small range."""
    ratio = (down.norm(dim=1) / up.norm(dim=0).clamp(min=_TINY)).sqrt()
    ratio = ratio.where(ratio > 0, torch.ones_like(ratio))
    return up * ratio, down / ratio[:, None]


def errors_in_words(layers: Sequence[FlatLayer], weights: Weights, seen: bool) -> str:
    """The layers' errors as a sentence: their root mean square, the smallest and the largest."""
    errors = torch.tensor([layer.error for layer in layers])
    mean, least, most = (
        f"{100 * float(value):.0f} %" for value in (errors.square().mean().sqrt(), errors.min(), errors.max())
    )
    if not seen:
        over = (
            "estimated for inputs without any direction that come to all experts alike; connect a usage to measure it"
        )
    elif weights == "fitted":
        over = "over the tokens that it was fitted to; it is larger for other pictures"
    else:
        over = "over the tokens of the usage"
    return (
        f"Loss against routing: what these layers add is off by {mean} of what routed ones add (root mean square of "
        f"the layers, {least} to {most}; 100 % is a file without the experts), {over}."
    )
