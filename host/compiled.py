"""Models that torch.compile has compiled."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def uncompiled() -> AbstractContextManager[Any]:
    """Lets compiled models run uncompiled. The host's TorchCompileModel has torch ignore transformer
    options, so code compiled without patches, or with others, would run on without ours.

    For a whole run, not a call, because it holds for all threads. torch has it since 2.6; before, reading fails with
    the error that there are no values.
    """
    set_stance = getattr(torch.compiler, "set_stance", None)
    return set_stance("force_eager") if set_stance else nullcontext()


def is_compiled(network: Any) -> bool:
    """Whether a diffusion model is compiled as a whole."""
    return hasattr(network, "_orig_mod")


def has_compiled_blocks(network: Any) -> bool:
    """Whether blocks of a FLUX are compiled alone, and not the whole."""
    return any(is_compiled(block) for block in (*network.double_blocks, *network.single_blocks))
