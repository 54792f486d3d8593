"""Replacing the forward of modules for the duration of a call: neither weights nor the structure of a model change."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

Forward = Callable[..., Tensor]


@dataclass(frozen=True)
class Replacement:
    """A function that takes the place of a module's forward during a call.

    `before` is the forward that was set on the module itself by somebody else; None without one.
    """

    module: nn.Module
    before: Forward | None
    forward: Callable[..., object]


def set_forward(module: nn.Module) -> Forward | None:
    """The forward that somebody set on the module itself; None where its class's is in use."""
    return module.__dict__.get("forward")


def current_forward(module: nn.Module) -> Forward:
    """The forward in use, without a reference to `module.forward`, which a replacement would change."""
    return set_forward(module) or type(module).forward.__get__(module)


@contextmanager
def replaced_forwards(replacements: Iterable[Replacement]) -> Iterator[None]:
    """Put the replacements in place; afterwards they are taken back in reverse order, also after an exception."""
    done: list[Replacement] = []
    try:
        for replacement in replacements:
            done.append(replacement)
            replacement.module.forward = replacement.forward
        yield
    finally:
        for replacement in reversed(done):
            if replacement.before is None:
                replacement.module.__dict__.pop("forward", None)
            else:
                replacement.module.forward = replacement.before
