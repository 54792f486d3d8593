"""States of a training on disk: everything that the next step depends on, and nothing else.

A state is one safetensors file, written under another name first, so that a file which is there is whole. Batches and
noise are drawn from the step's number, so no random state is among it.
"""

import json
import logging
import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from .adapter import TrainedAdapter
from .average import RunningMean
from .errors import TrainingError
from .optimizers import new_optimizer
from .settings import TrainingSettings

log = logging.getLogger(__name__)

_NAME = re.compile(r"step_(\d{8})\.safetensors")
_INFO = "training"
_ADAPTER, _OPTIMIZER, _MEAN, _LOSSES = "adapter.", "optimizer.", "mean.", "losses"


@dataclass(eq=False)
class LearningState:
    """What changes while training: adapter and optimizer, the losses of the steps that are done, a running mean."""

    adapter: TrainedAdapter
    optimizer: Optimizer
    losses: list[float] = field(default_factory=list)
    mean: RunningMean | None = None

    @classmethod
    def before_the_first_step(cls, adapter: TrainedAdapter, settings: TrainingSettings) -> "LearningState":
        mean = RunningMean(adapter, settings.average) if settings.average else None
        return cls(adapter, new_optimizer(adapter.parameters(), settings), mean=mean)

    @property
    def step(self) -> int:
        return len(self.losses)

    def as_it_comes_out(self) -> AbstractContextManager[None]:
        """For this time the adapter has the weights that are written at the end: the mean's, where there is one."""
        return nullcontext() if self.mean is None else self.mean.in_place_of(self.adapter)


def write_file(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file so that it appears whole or not at all.

    Raises:
        TrainingError: the disk is full, or the folder cannot be written to.
    """
    scratch = path.with_name(f"{path.name}.part")
    whole = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(whole, scratch, metadata=dict(header))
        os.replace(scratch, path)
    except (OSError, SafetensorError) as error:
        scratch.unlink(missing_ok=True)
        raise TrainingError(
            f"{path.name} could not be written to {path.parent} ({error}). Make room on that disk, or allow writing "
            "there, and run again: what was saved before is kept."
        ) from error


@dataclass(frozen=True)
class StateFolder:
    """The last `keep` states of a training."""

    path: Path
    keep: int = 2

    def steps(self) -> list[int]:
        """After how many steps the states were saved, the last one at the end."""
        names = (_NAME.fullmatch(path.name) for path in self.path.glob("step_*.safetensors"))
        return sorted(int(name[1]) for name in names if name is not None)

    def save(self, state: LearningState) -> None:
        """Add a state, and delete the oldest beyond `keep`.

        Raises:
            TrainingError: it cannot be written; those before it are kept.
        """
        numbers, tensors = _flat(state.optimizer)
        tensors |= {f"{_ADAPTER}{name}": value for name, value in state.adapter.state_dict().items()}
        if state.mean is not None:
            tensors |= {f"{_MEAN}{name}": value for name, value in state.mean.tensors.items()}
        tensors[_LOSSES] = torch.tensor(state.losses, dtype=torch.float64)
        write_file(self._file(state.step), tensors, {_INFO: json.dumps(numbers)})
        for step in self.steps()[: -self.keep]:
            self._file(step).unlink(missing_ok=True)

    def load_last(self, state: LearningState) -> bool:
        """Set the state to the last one that was saved. False where there is none.

        Raises:
            TrainingError: it cannot be read.
        """
        for leftover in self.path.glob("*.part"):
            leftover.unlink(missing_ok=True)
        steps = self.steps()
        if not steps:
            return False
        file = self._file(steps[-1])
        try:
            with safe_open(file, framework="pt", device="cpu") as opened:
                tensors = {key: opened.get_tensor(key).clone() for key in opened.keys()}  # noqa: SIM118 - no dict
                numbers = json.loads((opened.metadata() or {})[_INFO])
            _restore(state, tensors, numbers)
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise TrainingError(
                f"The saved state {file} cannot be read ({error}). Delete it: the training then goes on from the state "
                "before it, or starts again."
            ) from error
        log.info("Training goes on after step %d, from %s.", state.step, file)
        return True

    def _file(self, step: int) -> Path:
        return self.path / f"step_{step:08d}.safetensors"


def _flat(optimizer: Optimizer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """An optimizer's state as numbers and tensors by names."""
    whole = optimizer.state_dict()
    tensors, numbers = {}, {}
    for index, values in whole["state"].items():
        for name, value in values.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{_OPTIMIZER}{index}.{name}"] = value
    return {"groups": whole["param_groups"], "numbers": numbers}, tensors


def _restore(state: LearningState, tensors: Mapping[str, Tensor], saved: Mapping[str, Any]) -> None:
    named: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **saved["numbers"]}.items():
        if key.startswith(_OPTIMIZER):
            index, _, name = key.removeprefix(_OPTIMIZER).partition(".")
            named.setdefault(int(index), {})[name] = value
    adapter = {key.removeprefix(_ADAPTER): value for key, value in tensors.items() if key.startswith(_ADAPTER)}
    state.adapter.load_state_dict(adapter)
    state.optimizer.load_state_dict({"state": named, "param_groups": saved["groups"]})
    if state.mean is not None:
        for name, value in state.mean.tensors.items():
            value.copy_(tensors[f"{_MEAN}{name}"])
    state.losses[:] = tensors[_LOSSES].tolist()
