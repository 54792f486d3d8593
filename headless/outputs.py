"""What a finished prompt left on its server."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .answers import items, mapping


@dataclass(frozen=True)
class SavedPicture:
    """A picture that a node saved on the server."""

    node: str
    filename: str
    subfolder: str
    kind: str


@dataclass(frozen=True)
class RunResult:
    """What a finished prompt produced: its pictures in the order of the workflow's nodes, and all outputs.

    Args:
        seconds: for which the server worked on it, if the server says so.
    """

    prompt_id: str
    pictures: tuple[SavedPicture, ...]
    outputs: dict[str, Any]
    seconds: float | None = None


def saved_pictures(outputs: dict[str, Any], nodes: Iterable[str]) -> tuple[SavedPicture, ...]:
    """In the order of these nodes. Node packs put other things than files under `images`, too."""
    return tuple(
        SavedPicture(node, entry["filename"], str(entry.get("subfolder") or ""), str(entry.get("type") or "output"))
        for node in nodes
        for entry in map(mapping, items(mapping(outputs.get(node)).get("images")))
        if isinstance(entry.get("filename"), str)
    )
