"""A client for any ComfyUI server: upload pictures, queue an API-format workflow, follow it, fetch the pictures.

async with ComfyClient("http://127.0.0.1:8188") as client:
    name = await client.upload_picture(Path("cat.png"))
    result = await client.run(workflow, on_progress=print)
    for picture in result.pictures:
        Path(picture.filename).write_bytes(await client.download(picture))
"""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp

from .connection import ComfyError, Connection
from .following import Follower

Workflow = dict[str, dict[str, Any]]
"""API format: node id -> {"class_type": ..., "inputs": {...}}."""

TAKE_BACK = aiohttp.ClientTimeout(connect=5, sock_read=10)


@dataclass(frozen=True)
class Progress:
    """Steps done of all steps of one node that is running."""

    node: str
    value: int
    total: int


@dataclass(frozen=True)
class Picture:
    """A picture that a node saved on the server."""

    node: str
    filename: str
    subfolder: str
    kind: str


@dataclass(frozen=True)
class RunResult:
    """What a finished prompt left: its pictures in the order of the workflow's nodes, and the texts of its outputs."""

    prompt_id: str
    pictures: tuple[Picture, ...]
    outputs: dict[str, Any]


class ComfyClient:
    """One connection to one server, for any number of runs, also at once. Use as an async context manager."""

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)
        self._uploads = f"icedit-{uuid.uuid4().hex[:8]}"

    async def __aenter__(self) -> "ComfyClient":
        self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def upload_picture(self, path: Path) -> str:
        """Upload a file into the server's input folder; the name to give to picture widgets.

        Raises:
            ComfyError: no such file, no connection, or the server refused it.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ComfyError(f"The picture {path} cannot be read: {error.strerror or error}") from error
        # Servers take the name as it stands; a quoted one would stay quoted.
        form = aiohttp.FormData(quote_fields=False)
        form.add_field("image", content, filename=path.name, content_type="application/octet-stream")
        # A folder of this client's own: pictures of the same name from two clients never replace each other.
        form.add_field("subfolder", self._uploads)
        form.add_field("overwrite", "false")
        answer = await self._connection.json("POST", "/upload/image", data=form)
        return f"{answer['subfolder']}/{answer['name']}" if answer.get("subfolder") else answer["name"]

    async def input_names(self, node_class: str) -> list[str]:
        """The inputs of a class of nodes, in their order; none if the server does not have it.

        Raises:
            ComfyError: no connection.
        """
        answer = await self._connection.json("GET", f"/object_info/{quote(node_class, safe='')}")
        inputs = answer.get(node_class, {}).get("input", {})
        return [name for part in ("required", "optional") for name in inputs.get(part, {})]

    async def run(self, workflow: Workflow, on_progress: Callable[[Progress], None] | None = None) -> RunResult:
        """Queue a workflow and follow it to its end. A cancelled call takes the prompt back from the server.

        Raises:
            ComfyError: the server's own reason when it refuses the workflow or a node fails; the prompt was interrupted
                or removed from the queue; the connection was lost and did not come back.
        """

        def report(node: str, value: int, total: int) -> None:
            if on_progress is not None:
                on_progress(Progress(workflow.get(node, {}).get("class_type", "node"), value, total))

        async with Follower(self._connection, report) as follower:
            prompt_id = await self._queue(workflow, follower.listener)
            try:
                outputs = await follower.outputs_of(prompt_id)
            except asyncio.CancelledError:
                await self._take_back(prompt_id)
                raise
        return RunResult(prompt_id, _pictures(outputs, workflow), outputs)

    async def download(self, picture: Picture) -> bytes:
        """The content of a picture.

        Raises:
            ComfyError: no connection, or the server does not have it any more.
        """
        query = {"filename": picture.filename, "subfolder": picture.subfolder, "type": picture.kind}
        status, content = await self._connection.content("/view", query)
        if status != 200:
            raise ComfyError(f"The server does not hand out {picture.filename}: HTTP status {status}.")
        return content

    async def _queue(self, workflow: Workflow, listener: str) -> str:
        answer = await self._connection.json("POST", "/prompt", json={"prompt": workflow, "client_id": listener})
        return answer["prompt_id"]

    async def _take_back(self, prompt_id: str) -> None:
        # A server that cannot be reached must not turn the cancellation into another error.
        with suppress(ComfyError):
            await self._connection.post("/queue", {"delete": [prompt_id]}, timeout=TAKE_BACK)
            await self._connection.post("/interrupt", {"prompt_id": prompt_id}, timeout=TAKE_BACK)


def _pictures(outputs: dict[str, Any], workflow: Workflow) -> tuple[Picture, ...]:
    return tuple(
        Picture(node, entry["filename"], entry.get("subfolder", ""), entry.get("type", "output"))
        for node in workflow
        for entry in outputs.get(node, {}).get("images", [])
    )
