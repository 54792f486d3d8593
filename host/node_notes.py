"""Notes to the user on a node, for what is not an error."""

import logging
from collections.abc import Callable, Iterable

from comfy_api.latest import io
from server import PromptServer

log = logging.getLogger(__name__)


def show(node: type[io.ComfyNode], notes: Iterable[str]) -> None:
    """Write notes into the log and show them on a node, below its widgets. It needs `hidden=[io.Hidden.unique_id]`."""
    later(node)("\n".join(notes))


def later(node: type[io.ComfyNode]) -> Callable[[str], None]:
    """A function that shows a note on the node, also after it has run, such as while a sampler uses its model."""
    node_id = getattr(node.hidden, "unique_id", None)

    def tell(text: str) -> None:
        if not text:
            return
        log.info("[ICEdit] %s", text)
        server = getattr(PromptServer, "instance", None)
        # Scripts that run nodes without a page have neither.
        if server is not None and node_id:
            server.send_progress_text(text, node_id)

    return tell
