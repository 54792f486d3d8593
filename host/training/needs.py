"""What a training on the host will need, as a line of its report."""

from dataclasses import dataclass
from typing import Any

from ...training.adapter import TrainedAdapter
from ...training.loss import PATCH
from ...training.memory import BatchShape, adapter_bytes, memory_line
from ...training.pairs.pair import EditPairs
from ...training.settings import TrainingSettings

TEXT_TOKENS = 256
"""Of a sentence, at least: T5's for FLUX are filled up to it."""


@dataclass(frozen=True)
class MemoryNeeds:
    """What a training needs.

    Attributes:
        line: for people.
        beside_model: bytes that have to be free beside the base model.
    """

    line: str
    beside_model: int


def memory_needs(
    model: Any, adapter: TrainedAdapter, pairs: EditPairs, settings: TrainingSettings, checkpointing: bool
) -> MemoryNeeds:
    """An estimate, for the largest pictures among the pairs."""
    network = model.model.diffusion_model
    largest = max(height * width for height, width in {pairs.bucket(pair) for pair in pairs})
    shape = BatchShape(
        tokens=settings.batch_size * (2 * largest // PATCH**2 + TEXT_TOKENS),
        hidden=network.hidden_size,
        blocks=len(network.double_blocks) + len(network.single_blocks),
        itemsize=model.model.get_dtype_inference().itemsize,
        rank=settings.rank,
        experts=settings.experts if settings.routed else 0,
    )
    parameters = sum(parameter.numel() for parameter in adapter.parameters())
    of_adapter = adapter_bytes(parameters, settings)
    line = memory_line(model.model_size(), of_adapter, shape, checkpointing)
    return MemoryNeeds(line, of_adapter + shape.activations(checkpointing))
