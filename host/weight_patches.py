"""The host's weight patches, which nest tensors in tuples, lists and adapters."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def patch_tensors(patch: Any) -> Iterator[Tensor]:
    """All tensors of a weight patch."""
    if isinstance(patch, Tensor):
        yield patch
    elif isinstance(patch, tuple | list):
        for part in patch:
            yield from patch_tensors(part)
    elif hasattr(patch, "weights"):
        yield from patch_tensors(patch.weights)
