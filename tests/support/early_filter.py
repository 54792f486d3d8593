"""Early Filter Sampler and KSampler on the same tiny edit, and a model that counts its calls."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from .tiny_edit import Inputs, early_filter, ksampler


@pytest.fixture
def filtered(host: Any, models: Inputs, edit: Inputs) -> Callable[..., tuple[Tensor, Tensor, int, Inputs]]:
    """Runs EarlyFilterSampler with small defaults; changes by name. See `early_filter` for what it gives."""

    def run(**changes: Any) -> tuple[Tensor, Tensor, int, Inputs]:
        return early_filter(host, **models | edit | changes)

    return run


@pytest.fixture
def plain(host: Any, models: Inputs, edit: Inputs) -> Callable[..., Tensor]:
    """Runs KSampler likewise; its samples."""

    def run(**changes: Any) -> Tensor:
        return ksampler(host, **{"model": models["model"]} | edit | changes)

    return run


def counting(model: Any) -> tuple[Any, list[int]]:
    """A clone of a model that counts its calls, and the count as a list of one."""
    from comfy.patcher_extension import WrappersMP

    count, clone = [0], model.clone()

    def call(executor: Any, *args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        return executor(*args, **kwargs)

    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "count", call)
    return clone, count
