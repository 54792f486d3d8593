"""Optimizers and how their learning rate changes over a training."""

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from .errors import TrainingError
from .settings import CONSTANT, COSINE, PRODIGY, TrainingSettings

WARM_UP = 20
"""Steps over which the rate rises, whatever the length of the training: a constant one can be made longer later."""


def new_optimizer(parameters: Iterable[Parameter], settings: TrainingSettings) -> Optimizer:
    """The optimizer for float32 parameters.

    Raises:
        TrainingError: its package is not installed.
    """
    rate = settings.learning_rate
    if settings.optimizer != PRODIGY:
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0, betas=(0.9, 0.98))
    try:
        from prodigyopt import Prodigy  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise TrainingError(
            "The optimizer Prodigy needs the package prodigyopt, which is not installed. Choose AdamW, or install it "
            "into ComfyUI's Python: pip install prodigyopt."
        ) from error
    return Prodigy(parameters, lr=rate, weight_decay=0.0, betas=(0.9, 0.99), safeguard_warmup=True)


def rate_factor(step: int, settings: TrainingSettings) -> float:
    """The factor of the learning rate at a step."""
    rising = min(1.0, (step + 1) / WARM_UP)
    if settings.schedule == CONSTANT:
        return rising
    left = 1 - step / settings.steps
    return rising * (0.5 - 0.5 * math.cos(math.pi * left) if settings.schedule == COSINE else left)
