"""What tests of reused tokens share: a sampler that asks twice for the same, and what a run said."""

import itertools
from typing import Any

import torch


def asks_twice(found: list[torch.Tensor]) -> Any:
    """A sampler of Euler's steps that asks for each of them twice; the answers are in `found`."""
    import comfy.samplers

    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None, **_):
        for sigma, below in itertools.pairwise(sigmas):
            batch = sigma.expand(len(x))
            answers = [model(x, batch, **(extra_args or {})) for _ in range(2)]
            found.extend(answers)
            x = x + (x - answers[0]) / sigma * (below - sigma)
        return x

    return comfy.samplers.KSAMPLER(sample)


def pairs_off(found: list[torch.Tensor]) -> float:
    """The largest relative difference between the two answers to the same question."""
    return max(
        float((second - first).norm() / first.norm()) for first, second in zip(found[::2], found[1::2], strict=True)
    )
