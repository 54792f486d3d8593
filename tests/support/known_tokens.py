"""Reuse Known Tokens on the tiny edit: models that reuse, runs of them, and a sampler that asks twice for the same."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from .tiny_edit import Inputs, ksampler

STEPS = 6
EXACT = 1e-4
"""Two ways to add up the same float32 numbers differ by less; what the tests change differs by far more."""


@pytest.fixture
def sampled(host: Any, models: Inputs, edit: Inputs) -> Callable[..., Tensor]:
    """Runs KSampler on the tiny edit with small defaults, changes by name: the samples."""

    def run(model: Any = None, **changes: Any) -> Tensor:
        return ksampler(host, **{"model": model or models["model"], "steps": STEPS} | edit | changes)

    return run


@pytest.fixture
def twice(host: Any, edit: Inputs) -> Callable[..., list[Tensor]]:
    """Both answers of each step of a sampler that asks twice: in full, then short."""

    def run(model: Any, **changes: Any) -> list[Tensor]:
        given = edit | changes
        guider = host.call("CFGGuider", model=model, positive=given["positive"], negative=given["negative"],
                           cfg=given.get("cfg", 1.0))[0]  # fmt: skip
        (sigmas,) = host.call("BasicScheduler", model=model, scheduler="simple", steps=3, denoise=1.0)
        found: list[Tensor] = []
        (noise,) = host.call("RandomNoise", noise_seed=3)
        host.call(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=asks_twice(found), sigmas=sigmas,
            latent_image=given["latent_image"],
        )  # fmt: skip
        return found

    return run


@pytest.fixture
def said() -> list[str]:
    """What runs of `reusing` say to the user."""
    return []


@pytest.fixture
def reusing(models: Inputs, said: list[str]) -> Callable[..., Any]:
    """A model that reuses its known tokens, with small defaults; changes by name. What its runs say is in `said`."""
    from icedit.host.known_tokens.model import reuse_known_tokens
    from icedit.known_tokens.control import ReuseSettings, Unchanged

    def node(model: Any = None, **changes: Any) -> Any:
        if "unchanged" in changes:
            changes["unchanged"] = Unchanged(changes["unchanged"])
        settings = ReuseSettings(**{"refresh_every": 3, "first_steps": 2} | changes)
        return reuse_known_tokens(model or models["model"], settings, said.append)

    return node


def off(samples: Tensor, plain: Tensor) -> float:
    """How far samples are from others, as a share of these."""
    return float((samples - plain).norm() / plain.norm())


def asks_twice(found: list[Tensor]) -> Any:
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


def pairs_off(found: list[Tensor]) -> float:
    """The largest relative difference between the two answers to the same question."""
    return max(
        float((second - first).norm() / first.norm()) for first, second in zip(found[::2], found[1::2], strict=True)
    )
