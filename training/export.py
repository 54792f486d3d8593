"""Writing a trained adapter as a file in the published key layout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .adapter import TrainedAdapter
from .settings import TrainingSettings
from .states import write_file

CARD_KEY = "icedit_adapter"
"""The header's entry with the model card, as JSON. The loader reads top_k there."""


def header(settings: TrainingSettings, card: Mapping[str, Any]) -> dict[str, str]:
    """What the file says about itself. Alpha is the rank: the scale is 1, as loaders take it that know no alpha."""
    told: dict[str, Any] = {"rank": settings.rank, "alpha": settings.rank}
    if settings.routed:
        told |= {"experts": settings.experts, "top_k": settings.top_k}
    return {"format": "pt", CARD_KEY: json.dumps({**told, **card, "settings": settings.as_dict()})}


def write_adapter_file(
    path: Path, adapter: TrainedAdapter, settings: TrainingSettings, card: Mapping[str, Any]
) -> None:
    """Write the adapter; a file of that name is replaced when the new one is whole.

    Raises:
        TrainingError: it cannot be written.
    """
    # Matrices that share memory with a stacked one would each be refused by the format.
    tensors = {key: tensor.clone() for key, tensor in adapter.file_tensors().items()}
    write_file(path, tensors, header(settings, card))
