"""Which outputs of a node the running prompt uses, so that a node can leave out what nothing uses."""

from comfy_execution.graph_utils import ExecutionBlocker, is_link
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context


def is_linked(output: int) -> bool:
    """Whether the running prompt links the output with this number of the running node; True where that is unknown.

    For `execute`, and for `fingerprint_inputs`, which a node that skips an output needs too: the host's cache does not
    know which outputs were used, and a later prompt may link the output that was skipped.
    """
    running, state = get_executing_context(), get_progress_state()
    # None: called by a script, not by the host. Of another prompt: called by a node that runs a prompt of its own.
    if running is None or running.prompt_id != state.prompt_id:
        return True
    prompt = state.dynprompt
    # A node that another one expanded into may be that one's output, which no input shows.
    if not prompt.has_node(running.node_id) or prompt.get_parent_node_id(running.node_id) is not None:
        return True
    inputs = (value for node in prompt.all_node_ids() for value in prompt.get_node(node)["inputs"].values())
    return any(is_link(value) and tuple(value) == (running.node_id, output) for value in inputs)


def skipped(name: str) -> ExecutionBlocker:
    """In place of an output that nothing was linked to: a node that uses it nevertheless stops with this sentence."""
    return ExecutionBlocker(
        f"{name} was not computed, because nothing was connected to it when its node ran. Connect it."
    )


def not_yet() -> ExecutionBlocker:
    """In place of an output that waits for the user: what uses it does not run, and shows no error."""
    return ExecutionBlocker(None)
