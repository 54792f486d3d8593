"""A running mean of an adapter's weights: it moves less than they do from step to step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .adapter import TrainedAdapter

YOUNG = 20
"""In the first steps the mean forgets faster, so that it does not hold on to the start."""


class RunningMean:
    """The mean of an adapter's weights over its steps, with the later ones counting more.

    `tensors` are by the names of the adapter's state.
    """

    def __init__(self, adapter: TrainedAdapter, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: weight.detach().clone() for name, weight in adapter.state_dict().items()}

    def add(self, adapter: TrainedAdapter, step: int) -> None:
        """Take in the weights after so many steps."""
        decay = min(self.decay, step / (YOUNG + step))
        with torch.no_grad():
            for name, weight in adapter.state_dict().items():
                self.tensors[name].lerp_(weight, 1 - decay)

    @contextmanager
    def in_place_of(self, adapter: TrainedAdapter) -> Iterator[None]:
        """The adapter has the mean's weights for this time."""
        own: dict[str, Tensor] = {name: weight.clone() for name, weight in adapter.state_dict().items()}
        adapter.load_state_dict(self.tensors)
        try:
            yield
        finally:
            adapter.load_state_dict(own)
