"""The steps of a training on the host: gradients, looks at held-out pairs, and what to say when memory runs out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import torch

from ...training.adapter import TrainedAdapter
from ...training.errors import TrainingError
from ...training.settings import TrainingSettings
from ...training.sheet import EditSample, training_sheet
from ...training.specialised import TaskBits, pairs_by_task, task_bits
from ...training.states import LearningState
from .batches import StepGradients
from .encode import EncodedPairs
from .fill_model import FillVelocity
from .progress import TrainingProgress
from .samples import HeldOutSamples


@dataclass(eq=False)
class Learning:
    """An adapter learning on the host's model.

    Attributes:
        sample_every: steps between two looks at held-out pairs; 0 for none.
        beside_model: bytes that the host is to leave free when it loads the model.
        samples: the last that were taken.
    """

    model: Any
    vae: Any
    adapter: TrainedAdapter
    data: EncodedPairs
    settings: TrainingSettings
    progress: TrainingProgress
    checkpointing: bool
    sample_every: int
    beside_model: int = 0
    samples: list[EditSample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._model = self.model.clone()
        self._velocity = FillVelocity(self._model, self.adapter, self.checkpointing)
        self._gradients = StepGradients(self._model, self._velocity, self.adapter, self.data, self.settings)
        self._is_loaded = False

    def gradients(self, step: int) -> float:
        """Add a step's gradients to the adapter's parameters; the loss."""
        self._load()
        return self._gradients(step)

    def task_bits(self) -> TaskBits | None:
        """How far experts differ by kind of edit; None without experts, or where fewer than two kinds are named."""
        pairs = pairs_by_task(self.data.pairs.pairs) if self.settings.routed else []
        if not pairs:
            return None
        self._load()
        counts = torch.stack([self._gradients.expert_counts(pair) for pair in pairs])
        return task_bits(counts, [pair.task or "" for pair in pairs])

    def _load(self) -> None:
        if self._is_loaded:
            return
        # As the host loads: weights that were made under inference mode and moved outside of it can be used by neither.
        with torch.inference_mode():
            comfy.model_management.load_models_gpu([self._model], memory_required=self.beside_model)
        self._is_loaded = True

    def step_done(self, state: LearningState) -> None:
        self.progress.step()
        is_last = state.step == self.settings.steps
        if self.sample_every and self.data.pairs.held_out and (is_last or state.step % self.sample_every == 0):
            with state.as_it_comes_out():
                self.samples = HeldOutSamples(self._model, self.vae, self._velocity, self.data, self.settings).take()
            self._is_loaded = False
        elif not (self.sample_every and state.step % self.sample_every == 0):
            return
        self.progress.show(training_sheet(state.losses, self.settings.steps, self.samples))


@contextmanager
def out_of_memory_explained(state: LearningState) -> Iterator[None]:
    """Turns an exception for want of memory into a sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        kept = f"The state after step {state.step} is kept: the same settings go on from it" if state.step else ""
        raise TrainingError(
            f"There was not enough memory for step {state.step + 1}. Turn checkpointing on, halve batch_size and "
            "double accumulate, load the model as fp8, or load the pairs in smaller pictures. "
            f"{kept or 'Nothing was learned yet'}."
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error).lower() for word in words)
