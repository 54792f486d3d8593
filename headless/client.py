"""A client for any ComfyUI server: upload pictures, queue an API-format workflow, follow it, fetch the pictures.

async with ComfyClient("http://127.0.0.1:8188") as client:
    name = await client.upload_picture(Path("cat.png"))
    result = await client.run(workflow, on_progress=print)
    for picture in result.pictures:
        Path(picture.filename).write_bytes(await client.download(picture))
"""

import asyncio
import itertools
import re
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp

from . import following
from .address import ServerAddress
from .answers import items, json_list, json_object, mapping, queued
from .connection import Connection
from .errors import ComfyError, GoneError, UnreachableError
from .outputs import RunResult, SavedPicture, saved_pictures

Workflow = dict[str, dict[str, Any]]
"""API format: node id -> {"class_type": ..., "inputs": {...}}."""

UNFIT_FOR_NAMES = re.compile(r'["\\/]')
TAKE_BACK = aiohttp.ClientTimeout(connect=5, sock_read=10)


@dataclass(frozen=True)
class NodeProgress:
    """Steps done of all steps of one node that is running.

    Of a server that opens no websocket: `following.WAITING` with the prompts before this one, and `following.WORKING`.
    """

    node: str
    value: int
    total: int


class ComfyClient:
    """One connection to one server, for any number of runs, also at once. Use as an async context manager.

    Args:
        server: its address, with a user and a password or a query if it wants them. One with a token or headers is made
            by `ServerAddress.of`.
        upload_type: the server's folder for uploaded pictures, input or temp.
        retry_seconds: the waits before each try to reach the server again (default: following.RETRY_SECONDS).

    Attributes:
        prompts: those of its runs that have not ended or were taken back.
    """

    def __init__(
        self,
        server: str | ServerAddress,
        upload_type: str = "input",
        retry_seconds: Sequence[float] | None = None,
    ) -> None:
        self._retry_seconds = retry_seconds
        self._connection = Connection(server)
        self._upload_type = upload_type
        self._uploads = f"icedit-{uuid.uuid4().hex[:8]}"
        self.prompts: set[str] = set()

    async def __aenter__(self) -> "ComfyClient":
        self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    @property
    def address(self) -> ServerAddress:
        return self._connection.address

    async def check(self) -> None:
        """Find out whether the server is there and takes work.

        Raises:
            UnreachableError: no connection.
            ComfyError: it wants a login, or is no ComfyUI.
        """
        await following.queue_of(self._connection)

    async def queue(self) -> tuple[list[str], list[str]]:
        """The ids of the prompts that the server runs, and of those that wait.

        Raises:
            ComfyError: as for check.
        """
        queue = await following.queue_of(self._connection)
        running, waiting = ([prompt for _, prompt in queued(queue, part)] for part in following.QUEUE_PARTS)
        return running, waiting

    async def upload_picture(self, path: Path) -> str:
        """Upload a file; returns the name to give to picture widgets.

        Raises:
            ComfyError: no such file, no connection, or the server refused it.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ComfyError(f"The picture {path} cannot be read: {error.strerror or error}") from error
        return await self.upload(path.name, content)

    async def upload(self, name: str, content: bytes, folder: str | None = None) -> str:
        """Upload a file; returns the name to give to widgets. Another file of that name there stays.

        Without `folder` it goes into one of this client's own: pictures of the same name from two clients never replace
        each other.

        Raises:
            ComfyError: no connection, or the server refused it.
        """
        # Servers take the name as it stands; a quoted one would stay quoted.
        form = aiohttp.FormData(quote_fields=False)
        form.add_field("image", content, filename=_sendable(name), content_type="application/octet-stream")
        form.add_field("subfolder", self._uploads if folder is None else folder)
        form.add_field("overwrite", "false")
        form.add_field("type", self._upload_type)
        answer = await self._connection.json("POST", "/upload/image", data=form)
        stored, folder = answer.get("name"), answer.get("subfolder") or ""
        if not isinstance(stored, str) or not isinstance(folder, str):
            raise self._connection.unlike_comfyui("/upload/image")
        place = f"{folder}/{stored}" if folder else stored
        return place if self._upload_type == "input" else f"{place} [{self._upload_type}]"

    async def input_names(self, node_class: str) -> list[str]:
        """The inputs of a class of nodes, in their order; none if the server does not have it.

        Raises:
            ComfyError: no connection.
        """
        answer = await self._connection.json("GET", f"/object_info/{quote(node_class, safe='')}")
        inputs = mapping(mapping(answer.get(node_class)).get("input"))
        return [name for part in ("required", "optional") for name in mapping(inputs.get(part))]

    async def model_folders(self, kind: str) -> list[str]:
        """The server's folders of a kind of models, by its own paths; none if it does not say.

        Raises:
            ComfyError: no connection.
        """
        found = json_list(await self._connection.file("/experiment/models", {}) or b"")
        folders = [items(entry.get("folders")) for entry in map(mapping, found) if entry.get("name") == kind]
        return [str(folder) for folder in itertools.chain(*folders)]

    async def model_metadata(self, kind: str, name: str) -> dict[str, Any] | None:
        """The texts in the header of a model file on the server; None if there is none.

        Raises:
            ComfyError: no connection.
        """
        content = await self._connection.file(f"/view_metadata/{quote(kind, safe='')}", {"filename": name})
        return json_object(content or b"")

    def clean(self, text: str) -> str:
        """A text of the server's for the terminal, without its password and characters that terminals act on."""
        return self._connection.address.clean(text)

    async def run(self, workflow: Workflow, on_progress: Callable[[NodeProgress], None] | None = None) -> RunResult:
        """Queue a workflow and follow it to its end. A cancelled call takes the prompt back from the server.

        Raises:
            ComfyError: the server's own reason when it refuses the workflow or a node fails; the prompt was interrupted
                or removed from the queue; the connection was lost and did not come back.
        """

        def report(node: str, value: int, total: int) -> None:
            if on_progress is not None:
                known = node if node in (following.WAITING, following.WORKING) else "node"
                on_progress(NodeProgress(workflow.get(node, {}).get("class_type", known), value, total))

        # Known before the server answers, so that a call that is cancelled meanwhile leaves nothing behind.
        prompt_id = str(uuid.uuid4())
        async with following.Follower(self._connection, report, self._retry_seconds) as follower:
            try:
                prompt_id = await self._queue(workflow, follower.listener, prompt_id)
                self.prompts.add(prompt_id)
                outputs = await follower.outputs_of(prompt_id)
            except asyncio.CancelledError:
                await self._take_back(prompt_id)
                raise
            except ComfyError:
                self.prompts.discard(prompt_id)
                raise
        self.prompts.discard(prompt_id)
        return RunResult(prompt_id, saved_pictures(outputs, workflow), outputs, follower.seconds)

    async def download(self, picture: SavedPicture) -> bytes:
        """The content of a picture.

        Raises:
            GoneError: the server does not have it any more.
            ComfyError: no connection, or the server refused.
        """
        query = {"filename": picture.filename, "subfolder": picture.subfolder, "type": picture.kind}
        # The work is done: a moment without a connection must not cost it.
        for wait in (*(following.RETRY_SECONDS if self._retry_seconds is None else self._retry_seconds), None):
            try:
                content = await self._connection.file("/view", query)
            except UnreachableError:
                if wait is None:
                    raise
                await asyncio.sleep(wait)
                continue
            if content is None:
                raise GoneError(f"The server no longer has its file {self._shown(picture)}.")
            if not content:
                raise ComfyError(f"The server sent an empty file for {self._shown(picture)}.")
            return content
        raise AssertionError("unreachable: the last try returns or raises")

    def _shown(self, picture: SavedPicture) -> str:
        return self._connection.address.clean(picture.filename)

    async def _queue(self, workflow: Workflow, listener: str, prompt_id: str) -> str:
        body = {"prompt": workflow, "client_id": listener, "prompt_id": prompt_id}
        answer = await self._connection.json("POST", "/prompt", json=body)
        # The id that the server gave it counts.
        if not isinstance(answer.get("prompt_id"), str):
            raise self._connection.unlike_comfyui("/prompt")
        return answer["prompt_id"]

    async def _take_back(self, prompt_id: str) -> None:
        # A server that cannot be reached must not turn the cancellation into another error.
        with suppress(ComfyError):
            await self._connection.post("/queue", {"delete": [prompt_id]}, timeout=TAKE_BACK)
            await self._connection.post("/interrupt", {"prompt_id": prompt_id}, timeout=TAKE_BACK)


def _sendable(name: str) -> str:
    """A file's name that is valid in a request: without characters that would end it there or cannot be encoded."""
    return "".join(letter if letter.isprintable() else "_" for letter in UNFIT_FOR_NAMES.sub("_", name))
