"""Models that torch.compile has compiled."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

COMPILE_KEY = "torch.compile"
"""The host's key for the wrapper that puts compiled modules in for the time of a call."""


def uncompiled() -> AbstractContextManager[Any]:
    """Lets compiled models run uncompiled. The host's TorchCompileModel has torch ignore transformer
    options, so code compiled without patches, or with others, would run on without ours.

    For a whole run, not a call, because it holds for all threads. torch has it since 2.6; before, reading fails with
    the error that there are no values.
    """
    set_stance = getattr(torch.compiler, "set_stance", None)
    return set_stance("force_eager") if set_stance else nullcontext()


def can_run_uncompiled() -> bool:
    return hasattr(torch.compiler, "set_stance")


def will_be_compiled(model: Any) -> bool:
    """Whether a node such as the host's TorchCompileModel compiles this model, or parts of it."""
    return bool(model.get_wrappers(WrappersMP.APPLY_MODEL, COMPILE_KEY))


def inside_compiled(module: Any) -> Any:
    """The module that torch.compile has put another one around; any other module as it is."""
    return getattr(module, "_orig_mod", module)


def is_compiled(network: Any) -> bool:
    """Whether a FLUX, or one of its blocks, is compiled."""
    modules = (network, *network.double_blocks, *network.single_blocks)
    return any(hasattr(module, "_orig_mod") for module in modules)
