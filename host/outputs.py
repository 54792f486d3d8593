"""Which outputs of a node the running prompt uses, so that none is computed for nobody."""

from comfy_execution.graph_utils import ExecutionBlocker, is_link
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context


def is_linked(output: int) -> bool:
    """Whether the running prompt links the output with this number of the running node; True where nothing says.

    For `execute`, and for `fingerprint_inputs`, which a node that skips an output needs too: the key under which the
    host keeps what a node gave says nothing of who uses it, and a later prompt may link the output that was skipped.
    """
    running, state = get_executing_context(), get_progress_state()
    # None: called by a script, not by the host. Of another prompt: called by a node that runs a prompt of its own.
    if running is None or running.prompt_id != state.prompt_id:
        return True
    prompt = state.dynprompt
    # What a node expands into may be that node's own output, which no input shows.
    if not prompt.has_node(running.node_id) or prompt.get_parent_node_id(running.node_id) is not None:
        return True
    inputs = (value for node in prompt.all_node_ids() for value in prompt.get_node(node)["inputs"].values())
    return any(is_link(value) and tuple(value) == (running.node_id, output) for value in inputs)


def skipped(name: str) -> ExecutionBlocker:
    """In place of an output that nothing was linked to: what uses it nevertheless is told so."""
    return ExecutionBlocker(
        f"{name} was not computed, because nothing was connected to it when its node ran. Connect it."
    )
