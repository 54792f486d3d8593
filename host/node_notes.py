"""Telling users something that is no error."""

import logging
from collections.abc import Iterable

from comfy_api.latest import io
from server import PromptServer

log = logging.getLogger(__name__)


def show(node: type[io.ComfyNode], notes: Iterable[str]) -> None:
    """Put notes into the log and onto a node, below its widgets; the node needs `hidden=[io.Hidden.unique_id]`."""
    text = "\n".join(notes)
    if not text:
        return
    log.info("[ICEdit] %s", text)
    node_id = getattr(node.hidden, "unique_id", None)
    server = getattr(PromptServer, "instance", None)
    # Both are missing where nodes run without a page, as in scripts.
    if server is not None and node_id:
        server.send_progress_text(text, node_id)
