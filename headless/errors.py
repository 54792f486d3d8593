"""What goes wrong between the client and a server; each message is for the user."""


class ComfyError(RuntimeError):
    """The server refused or failed the workflow, did not start, or the connection was lost."""


class UnreachableError(ComfyError):
    """The server cannot be reached at the moment."""


class SocketRefusedError(ComfyError):
    """The server answers, but does not open a websocket."""


class GoneError(ComfyError):
    """The server no longer has a file that it named."""
