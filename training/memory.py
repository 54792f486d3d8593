"""How much memory a training needs, estimated before it starts."""

from dataclasses import dataclass

from .settings import TrainingSettings

FLOAT32 = 4
_STATES = {"AdamW": 2, "Prodigy": 4}
"""Numbers that an optimizer keeps for each parameter."""


KEPT_PER_BLOCK = 20
"""Activations that a block of FLUX keeps for its gradients, in values per token and channel: inputs of norms,
modulation, query, key, value, feed-forward, and the input of its routed Linear."""


@dataclass(frozen=True)
class BatchShape:
    """What the layers compute on.

    Attributes:
        tokens: of pictures and text, of all pairs of the largest batch together.
        hidden: the model's width.
        blocks: how many the model has.
        itemsize: bytes of an activation.
        rank, experts: of the adapter; no experts for an ordinary one.
    """

    tokens: int
    hidden: int
    blocks: int
    itemsize: int
    rank: int
    experts: int

    @property
    def block(self) -> int:
        """Bytes that a block keeps for its gradients."""
        channels = KEPT_PER_BLOCK * self.hidden + self.rank * (4 + 2 * self.experts)
        return self.tokens * channels * self.itemsize

    def activations(self, checkpointing: bool) -> int:
        """Bytes that are kept from the forward to the backward pass."""
        if not checkpointing:
            return self.blocks * self.block
        return self.block + self.blocks * self.tokens * self.hidden * self.itemsize


def adapter_bytes(parameters: int, settings: TrainingSettings) -> int:
    """Of the float32 parameters, their gradients, what the optimizer keeps and the running mean."""
    return parameters * FLOAT32 * (2 + _STATES[settings.optimizer] + bool(settings.average))


def memory_line(base: int, adapter: int, shape: BatchShape, checkpointing: bool) -> str:
    """What a training needs, for people; `base` and `adapter` in bytes."""
    now, instead = shape.activations(checkpointing), shape.activations(not checkpointing)
    return (
        f"Memory: about {_size(base + adapter + now)}: {_size(base)} base model, {_size(adapter)} adapter with "
        f"gradients and optimizer, {_size(now)} activations; {_size(base + adapter + instead)} "
        f"{'without' if checkpointing else 'with'} checkpointing."
    )


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
