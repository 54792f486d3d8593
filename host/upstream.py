"""A digest of everything that a node gets, by the running prompt: equal in another session for the same graph."""

import hashlib
import json
from collections.abc import Collection
from typing import Any

from comfy_execution.graph_utils import is_link
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context

LENGTH = 8


def running_call() -> tuple[str, int] | None:
    """The running node and, where the host calls it for each entry of a list, which of the calls this is; None where a
    script calls it."""
    running = get_executing_context()
    return None if running is None else (running.node_id, running.list_index or 0)


def upstream_digest(leave_out: Collection[str]) -> str | None:
    """Of the running node's inputs, but those with these names, and of all nodes before it; None where that is not
    known."""
    running, state = get_executing_context(), get_progress_state()
    if running is None or running.prompt_id != state.prompt_id or not state.dynprompt.has_node(running.node_id):
        return None
    prompt, known = state.dynprompt, {}

    def digest(node_id: str, without: Collection[str]) -> str:
        if node_id not in known:
            node = prompt.get_node(node_id)
            inputs = {name: told(value) for name, value in node["inputs"].items() if name not in without}
            said = json.dumps([node["class_type"], inputs], sort_keys=True, default=str)
            known[node_id] = hashlib.sha256(said.encode()).hexdigest()
        return known[node_id]

    def told(value: Any) -> Any:
        if not is_link(value):
            return value
        source, output = value
        return [digest(source, ()) if prompt.has_node(source) else None, output]

    return digest(running.node_id, leave_out)[:LENGTH]
