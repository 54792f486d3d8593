"""How far experts differ by kind of edit, measured on pairs whose kind is named."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .pairs.pair import EditPair
from .usage import evenness, specialisation

PER_TASK = 8
MOST = 48
SHUFFLES = 20


@dataclass(frozen=True)
class TaskBits:
    """What the expert says about the kind of edit, in bits, on average over the layers.

    Attributes:
        by_task: measured.
        by_chance: the same with kinds assigned at random, which single pictures make positive too.
        evenness: 1 when all experts of a layer work equally often.
        tasks: how many kinds there are.
    """

    by_task: float
    by_chance: float
    evenness: float
    tasks: int

    def line(self) -> str:
        return (
            f"Experts: evenness {self.evenness:.2f} (1: all work equally often). The expert says {self.by_task:.3f} "
            f"bits about which of {self.tasks} kinds of edit it is ({self.by_chance:.3f} with kinds drawn at random)."
        )


def pairs_by_task(pairs: Sequence[EditPair]) -> list[EditPair]:
    """Some pairs of each kind, if there are two kinds or more; else none."""
    tasks: dict[str, list[EditPair]] = defaultdict(list)
    for pair in pairs:
        if pair.task is not None:
            tasks[pair.task].append(pair)
    if len(tasks) < 2:
        return []
    each = min(PER_TASK, max(1, MOST // len(tasks)))
    return [pair for task in sorted(tasks) for pair in tasks[task][:each]][:MOST]


def task_bits(counts: Tensor, tasks: Sequence[str]) -> TaskBits:
    """From counts `pairs layers experts` of tokens, of pairs whose kinds are `tasks`."""
    draw, shuffled = random.Random(0), []  # noqa: S311 - drawn to be repeated
    for _ in range(SHUFFLES):
        shuffled.append(_bits(counts, draw.sample(list(tasks), len(tasks))))
    chance = sum(shuffled) / SHUFFLES
    return TaskBits(_bits(counts, tasks), chance, float(evenness(counts.sum(0)).mean()), len(set(tasks)))


def _bits(counts: Tensor, tasks: Sequence[str]) -> float:
    names = sorted(set(tasks))
    grouped = torch.zeros(counts.shape[1], len(names), counts.shape[2], dtype=torch.float64)
    for count, task in zip(counts, tasks, strict=True):
        grouped[:, names.index(task)] += count
    return float(specialisation(grouped).mean())
