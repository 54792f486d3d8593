"""Prompts as they come to the host's server, before it checks them."""

from typing import Any

from server import PromptServer


def fill_in(class_type: str, name: str, value: str) -> None:
    """Give an input of a node a value wherever a prompt leaves it out.

    For inputs that the host's page wants to be required (it gives an upload button to no others) and that have a
    natural default, which the host knows for optional inputs only.
    """
    server = getattr(PromptServer, "instance", None)
    # There is none where nodes run in scripts; these leave a Python argument out.
    if server is not None:
        server.add_on_prompt_handler(lambda request: _filled(request, class_type, name, value))


def _filled(request: dict[str, Any], class_type: str, name: str, value: str) -> dict[str, Any]:
    prompt = request.get("prompt")
    # What is no prompt is the host's to refuse.
    for node in prompt.values() if isinstance(prompt, dict) else ():
        if isinstance(node, dict) and node.get("class_type") == class_type and isinstance(node.get("inputs"), dict):
            node["inputs"].setdefault(name, value)
    return request
