"""What a step learns from. Everything is drawn from the seed and the step alone, so a resumed training repeats it."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .pairs.pair import EditPair
from .settings import UNIFORM, TrainingSettings


@dataclass(frozen=True)
class DrawnPair:
    """A pair with one of its instructions; None is none at all, for caption dropout."""

    pair: EditPair
    instruction: str | None


def drawn_pairs(pairs: Sequence[EditPair], seed: int, step: int, count: int, dropout: float) -> list[DrawnPair]:
    """The pairs of a step, each drawn as often as its weight says."""
    draw = random.Random(f"pairs {seed} {step}")  # noqa: S311 - drawn to be repeated
    chosen = draw.choices(pairs, [pair.weight for pair in pairs], k=count)
    spoken = [draw.choice(pair.instructions) for pair in chosen]
    return [DrawnPair(*found) for found in zip(chosen, [_kept(text, draw, dropout) for text in spoken], strict=True)]


def _kept(text: str, draw: random.Random, dropout: float) -> str | None:
    return None if draw.random() < dropout else text


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of a step's times and noise, on the CPU: the same numbers whatever the device."""
    # Global random state would be another part of what must be saved and restored.
    return torch.Generator().manual_seed(random.Random(f"noise {seed} {step}").getrandbits(63))  # noqa: S311


def drawn_times(count: int, settings: TrainingSettings, generator: torch.Generator) -> Tensor:
    """Times `count` in 0..1 (1 is noise), moved towards noise as FLUX's sampling is.

    LOGIT_NORMAL draws most in the middle and almost none near pure noise; UNIFORM as many as sampling has steps there.
    """
    if settings.times == UNIFORM:
        times = torch.rand(count, generator=generator)
    else:
        times = torch.randn(count, generator=generator).sigmoid()
    factor = math.exp(settings.shift)
    return factor * times / (1 + (factor - 1) * times)
