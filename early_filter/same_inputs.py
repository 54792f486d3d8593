"""Recognizes that a node is given the very objects that it was given before, without keeping them in memory."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PLAIN = (bool, int, float, str, bytes, type(None))
"""Compared by value; everything else is the same only where it is the same object."""


class SeenInputs:
    """The inputs of one run. Models, tensors and other objects in them are held weakly."""

    def __init__(self, inputs: Any, when_gone: Callable[[], None]) -> None:
        """`when_gone` is called as soon as one of the objects is no longer in memory, so that the inputs cannot come
        again."""
        self._parts = {
            place: _Plain(value) if isinstance(value, PLAIN) else _object(value, when_gone)
            for place, value in _parts(inputs)
        }

    def same(self, inputs: Any) -> bool:
        """Whether these are the inputs of that run."""
        parts = dict(_parts(inputs))
        return parts.keys() == self._parts.keys() and all(self._parts[place].same(parts[place]) for place in parts)


Way = tuple[Any, ...]


def _parts(value: Any, place: Way = ()) -> Iterator[tuple[Way, Any]]:
    """What lists and dictionaries hold, with the way to it; an empty one is a part itself."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _parts(inner, (*place, key))
    elif isinstance(value, list | tuple) and value:
        for index, inner in enumerate(value):
            yield from _parts(inner, (*place, index))
    elif isinstance(value, Mapping | list | tuple):
        yield (*place, type(value).__name__), None
    else:
        yield place, value


@dataclass(frozen=True)
class _Plain:
    value: Any

    def same(self, other: Any) -> bool:
        return type(other) is type(self.value) and other == self.value


@dataclass(frozen=True)
class _Weak:
    reference: "weakref.ref[Any]"

    def same(self, other: Any) -> bool:
        return other is not None and self.reference() is other


@dataclass(frozen=True)
class _Strong:
    value: Any

    def same(self, other: Any) -> bool:
        return other is self.value


def _object(value: Any, when_gone: Callable[[], None]) -> _Weak | _Strong:
    try:
        return _Weak(weakref.ref(value, lambda _: when_gone()))
    except TypeError:
        # Built-in constants such as a dtype: small, and there for good.
        return _Strong(value)
