"""Notes to the user on a node, for what is not an error."""

import logging
from collections.abc import Iterable

from comfy_api.latest import io
from server import PromptServer

log = logging.getLogger(__name__)


def show(node: type[io.ComfyNode], notes: Iterable[str]) -> None:
    """Write notes into the log and show them on a node, below its widgets. It needs `hidden=[io.Hidden.unique_id]`."""
    text = "\n".join(notes)
    if not text:
        return
    log.info("[ICEdit] %s", text)
    node_id = getattr(node.hidden, "unique_id", None)
    server = getattr(PromptServer, "instance", None)
    # Scripts that run nodes without a page have neither.
    if server is not None and node_id:
        server.send_progress_text(text, node_id)
