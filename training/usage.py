"""Which experts of a MoE-LoRA work on which tokens: counting while a model runs, and what the counts say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PLACES = ("left panel", "right panel", "sentence")
"""Where a token lies."""


def specialisation(counts: Tensor) -> Tensor:
    """How much the expert says about the group of a token, in bits: the mutual information of both.

    0: every group uses the experts alike. At most the logarithm of the smaller number. Noise alone makes it positive;
    for independent tokens what it makes on average, (groups - 1) * (experts - 1) / (2 ln 2 * tokens), is taken off.
    Tokens of one picture are not independent, so few pictures still give too much: compare with groups that were
    assigned at random.

    Args:
        counts: `... groups experts`, tokens of every group that went to every expert; groups are tasks, panels, steps.

    Returns:
        `...`, not below 0.
    """
    counts = counts.double()
    total = counts.sum((-2, -1), keepdim=True)
    if bool((total == 0).any()):
        raise ValueError("A layer has no counts, expected at least one token in each. Count some edits first.")
    joint = counts / total
    groups, experts = joint.sum(-1, keepdim=True), joint.sum(-2, keepdim=True)
    independent = (groups * experts).clamp(min=torch.finfo(joint.dtype).tiny)
    bits = torch.special.xlogy(joint, joint / independent).sum((-2, -1)) / math.log(2)
    free = ((groups > 0).sum((-2, -1)) - 1) * ((experts > 0).sum((-2, -1)) - 1)
    return (bits - free / (2 * math.log(2) * total[..., 0, 0])).clamp(min=0.0)


def evenness(counts: Tensor) -> Tensor:
    """Entropy of the shares of `... experts` over its largest value: 1 when all are used alike, 0 when only one is."""
    shares = counts.double() / counts.double().sum(-1, keepdim=True)
    return -torch.special.xlogy(shares, shares).sum(-1) / math.log(max(2, shares.shape[-1]))


@dataclass(frozen=True)
class HiddenMoments:
    """Averages over a layer's tokens of products of hidden vectors, `(experts rank) (experts rank)` each.

    With h = A x for all experts' A, and g their weights for that token: what a router chooses is B (g h). These are
    all that is needed to compare it, over the tokens that were seen, with any B N h.

    Attributes:
        plain: h h^T.
        crossed: (g h) h^T.
        routed: (g h) (g h)^T.
    """

    plain: Tensor
    crossed: Tensor
    routed: Tensor


@dataclass(frozen=True)
class LayerUsage:
    """What one layer's experts did in a run.

    Attributes:
        path: the layer in the host's diffusion model.
        rank: of each expert.
        counts: `steps places experts`, tokens by `PLACES`; with top_k above 1 an expert counts by its weight.
        positions: `height width experts`, the same over the first picture, summed over the evaluations.
        moments: of the hidden vectors.
        pictures: how many were sampled.
    """

    path: str
    rank: int
    counts: Tensor
    positions: Tensor
    moments: HiddenMoments
    pictures: int = 1

    @property
    def experts(self) -> int:
        return self.counts.shape[-1]

    @property
    def shares(self) -> Tensor:
        """`experts`, of all tokens."""
        total = self.counts.sum((0, 1))
        return total / total.sum()

    @property
    def evenness(self) -> float:
        return float(evenness(self.counts.sum((0, 1))))

    @property
    def panel_bits(self) -> float:
        """What the expert says about the panel."""
        panels = self.counts.sum(0)[:2]
        return float(specialisation(panels)) if bool((panels.sum(-1) > 0).all()) else 0.0

    @property
    def step_bits(self) -> float:
        """What the expert says about the step."""
        return float(specialisation(self.counts.sum(1)))


@dataclass(frozen=True)
class AdapterUsage:
    """What one adapter's experts did in a run.

    Attributes:
        identity: of the adapter's routers, to know the file again.
        start: a sentence on whether the routers are still their random start.
        top_k: experts that worked on each token.
        layers: in the model's order.
    """

    identity: str
    start: str
    top_k: int
    layers: tuple[LayerUsage, ...]


@dataclass(frozen=True)
class RunUsage:
    """What the experts on a model did while it sampled; several adapters may lie on it."""

    adapters: tuple[AdapterUsage, ...]
    steps: int

    def of(self, identity: str) -> AdapterUsage | None:
        """The usage of the file with these routers."""
        return next((adapter for adapter in self.adapters if adapter.identity == identity), None)


class LayerTally:
    """Counts one layer's tokens while a model runs. What it keeps stays on the device of the tokens."""

    def __init__(self, path: str, rank: int, experts: int, steps: int, height: int, width: int) -> None:
        self.path, self.rank, self.experts = path, rank, experts
        self.counts = torch.zeros(steps, len(PLACES), experts)
        self.positions = torch.zeros(height, width, experts)
        self._size = (height, width)
        self._tokens = self._pictures = 0
        self._moments: Sequence[Tensor] = [torch.zeros(experts * rank, experts * rank)] * 3

    def add(self, hidden: Tensor, weights: Tensor, step: int, words: int) -> None:
        """Count the tokens of one evaluation.

        Args:
            hidden: `b tokens (experts rank)`.
            weights: `b tokens experts`.
            step: which step the evaluation belongs to.
            words: how many of the tokens are the sentence's; they come first.
        """
        device = hidden.device
        self._pictures = max(self._pictures, len(weights))
        hidden, weights = hidden.detach().float(), weights.detach().float()
        self._add_moments(hidden, weights)
        height, width = self._size
        if weights.shape[1] != words + height * width:
            # Only some of the tokens were computed, and which is not known here.
            return
        picture = weights[:, words:].unflatten(1, self._size)
        places = (picture[:, :, : width // 2], picture[:, :, width // 2 :], weights[:, :words])
        self.counts = self.counts.to(device)
        self.counts[step] += torch.stack([place.reshape(-1, self.experts).sum(0) for place in places])
        self.positions = self.positions.to(device) + picture[0]

    def _add_moments(self, hidden: Tensor, weights: Tensor) -> None:
        plain = hidden.flatten(0, -2)
        routed = (plain.unflatten(-1, (self.experts, self.rank)) * weights.flatten(0, -2)[..., None]).flatten(-2)
        self._tokens += len(plain)
        products = (plain.T @ plain, routed.T @ plain, routed.T @ routed)
        self._moments = [sums.to(hidden.device) + more for sums, more in zip(self._moments, products, strict=True)]

    @property
    def placed(self) -> bool:
        """Whether any tokens came whose places are known."""
        return bool(self.counts.sum() > 0)

    def finished(self) -> LayerUsage:
        moments = HiddenMoments(*(sums.cpu().double() / max(1, self._tokens) for sums in self._moments))
        return LayerUsage(self.path, self.rank, self.counts.cpu(), self.positions.cpu(), moments, self._pictures)
