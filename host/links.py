"""What is linked to a node's inputs, for nodes whose error messages say more than the host's."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io
from comfy_execution.validation import validate_node_input


def mismatch(node: type[io.ComfyNode], received: Mapping[str, Any]) -> str | None:
    """The first link whose type does not fit its input, as a sentence; the host's own check for nodes that replace it.

    `received`: the types of the outputs that are linked, by the names of the inputs.
    """
    inputs: dict[str, dict[str, Any]] = node.INPUT_TYPES()
    expected = {name: spec[0] for group in inputs.values() for name, spec in group.items()}
    for name, kind in received.items():
        if name in expected and not validate_node_input(kind, expected[name]):
            return f"{name} is connected to an output of type {kind}, expected {_type_name(expected[name])}."
    return None


def _type_name(kind: Any) -> str:
    # Older hosts give the list of a combo's options as its type.
    return kind if isinstance(kind, str) else io.Combo.io_type
