"""The training loop: fixed seeds, progress, checkpoints, resuming."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import trange

Loss = Callable[[], Tensor]
WARM_UP = 100
GRADIENT_NORM = 1.0
SAVE_EVERY = 200


@dataclass(frozen=True)
class TrainingSchedule:
    """How long to train. In the last share `decay` of the steps the learning rate falls to 0. `average` is the decay of
    a running mean of the weights (0: no mean)."""

    steps: int
    decay: float = 0.4
    average: float = 0.0

    def factor(self, step: int) -> float:
        """The factor of the learning rate at a step."""
        return min(1.0, (step + 1) / WARM_UP) * min(1.0, (1 - step / self.steps) / self.decay)


def fit(model: nn.Module, loss: Loss, optimizers: Sequence[Optimizer], schedule: TrainingSchedule, file: Path) -> None:
    """Minimize `loss`, which draws its own batches. The model gets the trained (or averaged) weights.

    `file` is the checkpoint: a stopped training is resumed from it, a finished one is not repeated.
    """
    averaged = {name: value.detach().clone() for name, value in model.state_dict().items()}
    base_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    first = _resume(file, model, optimizers, averaged)
    model.train()
    progress = trange(first, schedule.steps, initial=first, total=schedule.steps, desc=file.stem, dynamic_ncols=True)
    for step in progress:
        # Batches depend on the step alone, so a resumed training gives the same weights as an uninterrupted one.
        torch.manual_seed(step)
        for optimizer, rates in zip(optimizers, base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule.factor(step)
        value = _step(model, loss, optimizers)
        decay = min(schedule.average, (1 + step) / (20 + step))
        for name, weight in model.state_dict().items():
            averaged[name] = torch.lerp(averaged[name], weight, 1 - decay) if weight.is_floating_point() else weight
        if step % 20 == 0:
            progress.set_postfix(loss=f"{value:.4f}")
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == schedule.steps:
            _save(file, step + 1, model, optimizers, averaged)
    model.load_state_dict(averaged)
    model.eval()


def _step(model: nn.Module, loss: Loss, optimizers: Sequence[Optimizer]) -> float:
    value = loss()
    for optimizer in optimizers:
        optimizer.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_([weight for weight in model.parameters() if weight.requires_grad], GRADIENT_NORM)
    for optimizer in optimizers:
        optimizer.step()
    return value.item()


def _resume(file: Path, model: nn.Module, optimizers: Sequence[Optimizer], averaged: dict[str, Tensor]) -> int:
    if not file.exists():
        return 0
    saved: dict[str, Any] = torch.load(file, map_location=next(model.parameters()).device, weights_only=True)
    model.load_state_dict(saved["model"])
    for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    averaged.update(saved["averaged"])
    return saved["step"]


def _save(
    file: Path, step: int, model: nn.Module, optimizers: Sequence[Optimizer], averaged: dict[str, Tensor]
) -> None:
    states = [optimizer.state_dict() for optimizer in optimizers]
    scratch = file.with_suffix(".part")
    torch.save({"step": step, "model": model.state_dict(), "optimizers": states, "averaged": averaged}, scratch)
    os.replace(scratch, file)
