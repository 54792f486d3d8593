"""A client for any ComfyUI server: upload pictures, queue an API-format workflow, follow it, fetch the pictures.

async with ComfyClient("http://127.0.0.1:8188") as client:
    name = await client.upload_picture(Path("cat.png"))
    result = await client.run(workflow, on_progress=print)
    for picture in result.pictures:
        Path(picture.filename).write_bytes(await client.download(picture))
"""

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

Workflow = dict[str, dict[str, Any]]
"""API format: node id -> {"class_type": ..., "inputs": {...}}."""

HEARTBEAT_SECONDS = 30.0
HISTORY_TRIES = 100


class ComfyError(RuntimeError):
    """The server refused or failed the workflow, or the connection was lost; the message is for the user."""


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
    """One connection to one server. Use as an async context manager."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ComfyError(
                f"The server address {url!r} must start with http:// or https://, as in http://127.0.0.1:8188"
            )
        self._url = url.rstrip("/")
        self._id = uuid.uuid4().hex
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "ComfyClient":
        timeout = aiohttp.ClientTimeout(total=None, connect=30, sock_read=300)
        self._session = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open_session.close()

    @property
    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("Use ComfyClient in an `async with` block.")
        return self._session

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
        # A folder of this client's own: pictures of the same name from two runs never replace each other.
        form.add_field("subfolder", f"icedit-{self._id[:8]}")
        form.add_field("overwrite", "false")
        answer = await self._json("POST", "/upload/image", data=form)
        return f"{answer['subfolder']}/{answer['name']}" if answer.get("subfolder") else answer["name"]

    async def run(self, workflow: Workflow, on_progress: Callable[[Progress], None] | None = None) -> RunResult:
        """Queue a workflow and follow it to its end. A cancelled call takes the prompt back from the server.

        Raises:
            ComfyError: the server's own reason when it refuses the workflow or a node fails, or the lost connection.
        """
        try:
            async with self._open_session.ws_connect(
                f"{self._url}/ws?clientId={self._id}", heartbeat=HEARTBEAT_SECONDS, max_msg_size=0
            ) as socket:
                prompt_id = await self._queue(workflow)
                try:
                    await _follow(socket, prompt_id, workflow, on_progress)
                except asyncio.CancelledError:
                    await self._take_back(prompt_id)
                    raise
        except aiohttp.ClientError as error:
            raise self._lost(error) from error
        return await self._result(prompt_id, workflow)

    async def download(self, picture: Picture) -> bytes:
        """The content of a picture."""
        query = {"filename": picture.filename, "subfolder": picture.subfolder, "type": picture.kind}
        try:
            async with self._open_session.get(f"{self._url}/view", params=query) as response:
                if response.status != 200:
                    raise ComfyError(f"The server does not hand out {picture.filename}: HTTP status {response.status}.")
                return await response.read()
        except aiohttp.ClientError as error:
            raise self._lost(error) from error

    async def _queue(self, workflow: Workflow) -> str:
        answer = await self._json("POST", "/prompt", json={"prompt": workflow, "client_id": self._id})
        return answer["prompt_id"]

    async def _take_back(self, prompt_id: str) -> None:
        await self._post("/queue", {"delete": [prompt_id]})
        await self._post("/interrupt", {"prompt_id": prompt_id})

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        async with self._open_session.post(f"{self._url}{path}", json=body) as response:
            await response.read()

    async def _result(self, prompt_id: str, workflow: Workflow) -> RunResult:
        outputs = await self._outputs(prompt_id)
        pictures = [
            Picture(node, entry["filename"], entry.get("subfolder", ""), entry.get("type", "output"))
            for node in workflow
            for entry in outputs.get(node, {}).get("images", [])
        ]
        return RunResult(prompt_id, tuple(pictures), outputs)

    async def _outputs(self, prompt_id: str) -> dict[str, Any]:
        # The server announces success a moment before it writes its history.
        for _ in range(HISTORY_TRIES):
            history = await self._json("GET", f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]["outputs"]
            await asyncio.sleep(0.1)
        raise ComfyError("The server has forgotten the prompt that it just finished; was its history cleared?")

    async def _json(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            async with self._open_session.request(method, f"{self._url}{path}", **arguments) as response:
                text = await response.text()
                status = response.status
        except aiohttp.ClientError as error:
            raise self._lost(error) from error
        try:
            answer = json.loads(text)
        except json.JSONDecodeError:
            answer = None
        if status != 200:
            raise ComfyError(_refusal(answer) or f"The server answered HTTP status {status} to {path}: {text[:300]}")
        if not isinstance(answer, dict):
            raise ComfyError(f"{self._url} does not answer like a ComfyUI server. Check the address.")
        return answer

    def _lost(self, error: Exception) -> ComfyError:
        return ComfyError(
            f"The connection to {self._url} failed: {error or type(error).__name__}. "
            "Check that ComfyUI is running there and that the address is right."
        )


async def _follow(
    socket: aiohttp.ClientWebSocketResponse,
    prompt_id: str,
    workflow: Workflow,
    on_progress: Callable[[Progress], None] | None,
) -> None:
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            continue
        event = json.loads(message.data)
        kind, data = event.get("type"), event.get("data", {})
        if data.get("prompt_id") != prompt_id:
            continue
        if kind == "progress" and on_progress is not None:
            on_progress(Progress(_title(workflow, data.get("node")), data["value"], data["max"]))
        elif kind == "execution_success":
            return
        elif kind == "execution_interrupted":
            raise ComfyError("The run was interrupted on the server.")
        elif kind == "execution_error":
            node = f"node {data.get('node_id')} ({data.get('node_type')})"
            raise ComfyError(f"The server failed in {node}: {str(data.get('exception_message', '')).strip()}")
    raise ComfyError(
        "The connection to the server was lost while it was working. It may have been stopped or run out of memory; "
        "its log says more."
    )


def _title(workflow: Workflow, node: str | None) -> str:
    return workflow.get(node or "", {}).get("class_type", "node")


def _refusal(answer: Any) -> str | None:
    """The server's reasons for refusing a workflow, one a line."""
    if not isinstance(answer, dict) or "error" not in answer:
        return None
    error = answer["error"]
    lines = [error if isinstance(error, str) else error.get("message", "The server refused the workflow.")]
    for node, report in (answer.get("node_errors") or {}).items():
        for problem in report.get("errors", []):
            lines.append(
                f"  node {node} ({report.get('class_type')}): {problem.get('message')}: {problem.get('details')}"
            )
    if not isinstance(error, str) and len(lines) == 1 and error.get("details"):
        lines.append(f"  {error['details']}")
    return "\n".join(lines)
