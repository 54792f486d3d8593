"""What model evaluations take where a node on the model leaves parts of them out: how it tells whoever samples."""

from collections.abc import Mapping
from typing import Any

COST_KEY = "icedit_model_cost"
"""In transformer options: a function that is told what each evaluation took, in evaluations in full."""

EXTENT_KEY = "icedit_extent"
"""In transformer options of an evaluation: `FULL` where it computes everything, else it builds on one before."""

FULL = "full"


class ModelCost:
    """Adds up what it is told; to be put under COST_KEY."""

    def __init__(self) -> None:
        self.work, self.told, self.left_out = 0.0, 0, 0

    def __call__(self, work: float) -> None:
        self.work += work
        self.told += 1
        self.left_out += work == 0


def extent(model_options: Mapping[str, Any]) -> str | None:
    """What an evaluation with these options computes; None where no node leaves anything out."""
    return model_options.get("transformer_options", {}).get(EXTENT_KEY)
