"""What goes wrong between the client and a server; each message is for the user."""


class ComfyError(RuntimeError):
    """The server refused or failed the workflow, did not start, or the connection was lost."""


class UnreachableError(ComfyError):
    """The server does not answer, at least not now."""


class SocketRefusedError(ComfyError):
    """The server answers, but does not open a websocket."""


class GoneError(ComfyError):
    """The server does not have a file any more that it named itself."""
