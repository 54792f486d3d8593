"""What goes wrong between the client and a server; each message is for the user."""


class ComfyError(RuntimeError):
    """The server refused or failed the workflow, did not start, or the connection was lost."""


class UnreachableError(ComfyError):
    """The server cannot be reached at the moment."""


class SocketRefusedError(ComfyError):
    """The server answers, but does not open a websocket."""


class GoneError(ComfyError):
    """The server no longer has a file that it named."""


class RemovedError(ComfyError):
    """The prompt is no longer on the server, which has not finished it: it was restarted, or someone removed it."""


class HangingError(UnreachableError):
    """The server answers, but does not go on with what it has to do."""


class UnreadableSourceError(ComfyError):
    """A file that belongs to an edit cannot be read here; no server is to blame."""


class ManifestError(ValueError):
    """A manifest or the folder for its results is not usable; the message has every problem and what to do."""
