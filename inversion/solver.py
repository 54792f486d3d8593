"""Inverting a flow: from a picture to the noise from which Euler sampling leads back to it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .schedule import Schedule

Velocity = Callable[[Tensor, float], Tensor]
"""dx/dsigma of the flow at a state and a sigma above 0."""

TOLERANCE = 1e-5
"""A correction that changes the state by no more than this share of it is the last one of its step."""


@dataclass(frozen=True, eq=False)
class Inverted:
    """`state` at the schedule's first sigma, of the picture's shape.

    Attributes:
        residual: the largest change that the last correction of any step made, as a share of the state that the step
            starts from; None without corrections.
        evaluations: of the velocity.
    """

    state: Tensor
    residual: float | None
    evaluations: int


def invert(
    velocity: Velocity,
    picture: Tensor,
    schedule: Schedule,
    corrections: int,
    after_step: Callable[[int, Tensor], None],
) -> Inverted:
    """Invert Euler sampling along `schedule`.

    A step of the sampler, x(low) = x(high) - (high - low) v(x(high), high), is solved for x(high) by fixed-point
    iteration: what one evaluation leads to goes into the next. Without corrections x(low) itself goes into the one
    evaluation of each step, the usual uncorrected inversion; with them the first guess goes on with the velocity that
    the previous step ended with, which costs nothing. Corrections end early where they no longer change anything, and
    where they grow (the iteration diverges), with the state before the one that grew.

    Args:
        corrections: evaluations of each step after its first, at most.
        after_step: called after each step with its number in sampling order and the state at its end.

    Raises:
        ValueError: corrections below 0, or a state that is not finite.
    """
    if corrections < 0:
        raise ValueError(f"corrections is {corrections}, expected 0 or more.")
    state, residual, evaluations = picture, 0.0, 0
    slope = torch.zeros_like(picture)
    for step, low, high in schedule.ascending:
        solved = _solve_step(velocity, state, state + (high - low) * slope, low, high, corrections)
        if not math.isfinite(solved.change):
            raise ValueError(
                f"The inversion left the finite numbers at sigma {high:.4g}. Check the source picture; with a model "
                "in fp16, load it in bf16."
            )
        if corrections:
            slope = (solved.state - state) / (high - low)
        state, residual = solved.state, max(residual, solved.change)
        evaluations += solved.evaluations
        after_step(step, state)
    return Inverted(state, residual if corrections else None, evaluations)


@dataclass(frozen=True, eq=False)
class _SolvedStep:
    """One step: `change` is that of its last evaluation, as a share of the state that the step starts from."""

    state: Tensor
    change: float
    evaluations: int


def _solve_step(velocity: Velocity, x: Tensor, guess: Tensor, low: float, high: float, corrections: int) -> _SolvedStep:
    change, norm = math.inf, torch.linalg.vector_norm(x)
    for spent in range(1, corrections + 2):
        moved = x + (high - low) * velocity(guess, high)
        before, change = change, float(torch.linalg.vector_norm(moved - guess) / norm)
        if change > before:
            return _SolvedStep(guess, before, spent)
        guess = moved
        if change <= TOLERANCE:
            return _SolvedStep(guess, change, spent)
    return _SolvedStep(guess, change, corrections + 1)


def relative_error(x: Tensor, reference: Tensor) -> float:
    """Root mean square of the difference over that of the reference."""
    return float(torch.linalg.vector_norm(x - reference) / torch.linalg.vector_norm(reference))
