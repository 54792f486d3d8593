"""The training loop: steps, checks, states. What a step computes is the caller's."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from .errors import TrainingError
from .optimizers import rate_factor
from .settings import TrainingSettings
from .states import LearningState, StateFolder

GRADIENT_NORM = 1.0

Gradients = Callable[[int], float]
"""Adds a step's gradients to the adapter's parameters, and returns the loss."""


@dataclass(frozen=True)
class Occasions:
    """When something happens besides learning. `done` is called after each step with the state."""

    save_every: int
    done: Callable[[LearningState], None]


def fit(
    state: LearningState, gradients: Gradients, settings: TrainingSettings, states: StateFolder, occasions: Occasions
) -> None:
    """Train up to `settings.steps`, from where the state is. It is saved now and then and at the end.

    An exception that stops the training between two steps, such as an interrupt, saves the state first.

    Raises:
        TrainingError: the loss is no number, or a state cannot be written.
    """
    saved, whole = state.step, True
    try:
        while state.step < settings.steps:
            _set_rate(state, settings)
            state.optimizer.zero_grad()
            loss = gradients(state.step)
            _check(state, loss, saved)
            whole = False
            state.optimizer.step()
            state.losses.append(loss)
            if state.mean is not None:
                state.mean.add(state.adapter, state.step)
            whole = True
            if state.step % occasions.save_every == 0 or state.step == settings.steps:
                states.save(state)
                saved = state.step
            occasions.done(state)
    except TrainingError:
        raise
    except BaseException:
        # Gradients alone do not change the adapter; half a step of the optimizer does.
        if whole and state.step > saved:
            states.save(state)
        raise


def _set_rate(state: LearningState, settings: TrainingSettings) -> None:
    for group in state.optimizer.param_groups:
        group["lr"] = settings.learning_rate * rate_factor(state.step, settings)


def _check(state: LearningState, loss: float, saved: int) -> None:
    norm = nn.utils.clip_grad_norm_(state.adapter.parameters(), GRADIENT_NORM)
    if not (math.isfinite(loss) and bool(torch.isfinite(norm))):
        kept = f"The state after step {saved} is kept" if saved else "Nothing was saved yet"
        raise TrainingError(
            f"The loss of step {state.step + 1} is {loss}, with a gradient of norm {norm:.3g}: the training has "
            f"diverged. {kept}. Lower learning_rate (a third of it, say), which starts a training of its own."
        )
