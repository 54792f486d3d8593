"""Whether the routers of a file are still their random start. The published one had no gradient, so it should be.

A router starts with entries drawn one by one from a uniform distribution (PyTorch's own start of a Linear) or a normal
one; weight decay only shrinks them all alike. Training leaves traces: the gradients of a softmax's logits add up to
zero over the experts, so the experts' rows become correlated, and inputs that vary much change most, so rows agree on
which of their entries are large. Both are measured between all pairs of rows, where what a random start shows has a
known distribution.

What this cannot see: training that moved a router by less than about a tenth of its size. And it looks at the weights
only: a router may be random and its experts have learned to live with it.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

RouterVerdict = Literal["random start", "trained", "unknown"]

LIMIT = 6.0
"""Standard deviations. Of 9000 drawn random starts the worst had 4.5: the sum has a heavier tail than a normal."""
FEWEST_INPUTS = 64
"""A correlation of fewer entries does not follow its limit distribution well enough."""
UNIFORM_KURTOSIS, NORMAL_KURTOSIS = 1.8, 3.0
UNIFORM_SPREAD, NORMAL_SPREAD = 1.32, 24.0
"""Variance of the kurtosis of n entries, times n."""
ROUNDING = 0.005
"""What storing as bfloat16 may add to a kurtosis."""


@dataclass(frozen=True)
class RouterStart:
    """What the routers of a file look like.

    Attributes:
        verdict: "trained" is sure; "random start" means that nothing speaks for training; "unknown" that the routers
            are too small or too strange to tell.
        rows, squares: how far the experts' rows, and the squares of their entries, are from being independent, in
            standard deviations of a random start.
        kurtosis: of the entries: 1.8 for a uniform distribution, 3 for a normal one.
    """

    verdict: RouterVerdict
    rows: float
    squares: float
    kurtosis: float

    def sentence(self) -> str:
        """For people, in one line."""
        if self.verdict == "unknown":
            return "Whether the routers were trained cannot be told from their weights."
        traces = f"rows depend on each other by {self.rows:.1f} σ, their squares by {self.squares:.1f} σ"
        if self.verdict == "trained":
            return f"The routers were trained: their weights are no random start any more ({traces})."
        kind = "uniform" if self.kurtosis < (UNIFORM_KURTOSIS + NORMAL_KURTOSIS) / 2 else "normal"
        return (
            f"The routers look like their random start ({kind}; {traces}): nothing shows that they learned to choose."
        )


def router_start(routers: Sequence[Tensor]) -> RouterStart:
    """Look at the routers `experts in` of all layers of a file together."""
    usable = [router.double() for router in routers if _usable(router)]
    if not usable:
        return RouterStart("unknown", math.nan, math.nan, math.nan)
    rows = _dependence((router / router.norm(dim=1, keepdim=True) for router in usable), sum(map(_pairs, usable)))
    squares = _dependence((_standardized(router.square()) for router in usable), sum(map(_pairs, usable)))
    kurtosis = _kurtosis(usable)
    if max(rows, squares) > LIMIT:
        return RouterStart("trained", rows, squares, kurtosis)
    entries = sum(router.numel() for router in usable)
    known = any(
        abs(kurtosis - expected) < LIMIT * math.sqrt(spread / entries) + ROUNDING
        for expected, spread in ((UNIFORM_KURTOSIS, UNIFORM_SPREAD), (NORMAL_KURTOSIS, NORMAL_SPREAD))
    )
    return RouterStart("random start" if known else "unknown", rows, squares, kurtosis)


def _usable(router: Tensor) -> bool:
    return len(router) > 1 and router.shape[1] >= FEWEST_INPUTS and bool((router.float().std(dim=1) > 0).all())


def _pairs(router: Tensor) -> int:
    return math.comb(len(router), 2)


def _standardized(values: Tensor) -> Tensor:
    centred = values - values.mean(dim=1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True).clamp(min=torch.finfo(centred.dtype).tiny)


def _dependence(normalized: Iterable[Tensor], pairs: int) -> float:
    """The sum of in * correlation², which is chi-squared for independent rows, as a standard normal's value."""
    total = 0.0
    for rows in normalized:
        product = rows @ rows.T
        total += rows.shape[1] * sum(
            float(product[first, second]) ** 2 for first, second in itertools.combinations(range(len(rows)), 2)
        )
    # Wilson and Hilferty's cube root.
    spread = 2 / (9 * pairs)
    return ((total / pairs) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)


def _kurtosis(routers: Sequence[Tensor]) -> float:
    entries = torch.cat([(router / router.square().mean().sqrt()).flatten() for router in routers])
    return float(entries.pow(4).mean())
