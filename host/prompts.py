"""Prompts as they come to the host's server, before it checks them."""

from collections.abc import Callable, Mapping
from typing import Any

from server import PromptServer

Inputs = dict[str, Any]


def fill_in(class_type: str, name: str, value: str) -> None:
    """Give an input of a node a value wherever a prompt leaves it out.

    For inputs that the host's page wants to be required (it gives an upload button to no others) and that have a
    natural default, which the host knows for optional inputs only.
    """
    _change_inputs(class_type, lambda inputs: inputs.setdefault(name, value))


def rename_values(class_type: str, name: str, renamed: Mapping[str, str]) -> None:
    """Give an input of a node the present name of a value wherever a prompt has an earlier name of it."""

    def change(inputs: Inputs) -> None:
        value = inputs.get(name)
        # A linked input holds a list.
        if isinstance(value, str):
            inputs[name] = renamed.get(value, value)

    _change_inputs(class_type, change)


def _change_inputs(class_type: str, change: Callable[[Inputs], object]) -> None:
    server = getattr(PromptServer, "instance", None)
    # There is none where nodes run in scripts; these leave a Python argument out.
    if server is not None:
        server.add_on_prompt_handler(lambda request: _changed(request, class_type, change))


def _changed(request: dict[str, Any], class_type: str, change: Callable[[Inputs], object]) -> dict[str, Any]:
    prompt = request.get("prompt")
    # What is no prompt is the host's to refuse.
    for node in prompt.values() if isinstance(prompt, dict) else ():
        if isinstance(node, dict) and node.get("class_type") == class_type and isinstance(node.get("inputs"), dict):
            change(node["inputs"])
    return request
