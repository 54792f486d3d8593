"""Requests to one ComfyUI server, and what users read when they fail."""

import json
from typing import Any

import aiohttp

HEARTBEAT_SECONDS = 30.0
UNREACHABLE = (502, 503, 504)
"""What a gateway answers as long as the server behind it does not."""


class ComfyError(RuntimeError):
    """The server refused or failed the workflow, or the connection was lost; the message is for the user."""


class UnreachableError(ComfyError):
    """The server does not answer, at least not now."""


class Connection:
    """The session with one server. Open it before, close it after all requests."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ComfyError(
                f"The server address {url!r} must start with http:// or https://, as in http://127.0.0.1:8188"
            )
        self.url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Make the session; needs a running event loop."""
        timeout = aiohttp.ClientTimeout(total=None, connect=30, sock_read=300)
        # Every run holds a socket; with aiohttp's limit of 100 connections many runs at once would wait for each other.
        self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))

    async def close(self) -> None:
        await self._open_session.close()

    @property
    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("Use ComfyClient in an `async with` block.")
        return self._session

    async def json(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """The JSON object that the server answers.

        Raises:
            UnreachableError: no connection.
            ComfyError: the server refused, or does not answer like a ComfyUI server.
        """
        status, content = await self._request(method, path, **arguments)
        text = content.decode(errors="replace")
        try:
            answer = json.loads(text)
        except json.JSONDecodeError:
            answer = None
        if status != 200:
            raise ComfyError(_refusal(answer) or f"The server answered HTTP status {status} to {path}: {text[:300]}")
        if not isinstance(answer, dict):
            raise ComfyError(f"{self.url} does not answer like a ComfyUI server. Check the address.")
        return answer

    async def post(self, path: str, body: dict[str, Any], **arguments: Any) -> None:
        """Post what has no answer."""
        await self._request("POST", path, json=body, **arguments)

    async def content(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        """The HTTP status and what came with it."""
        return await self._request("GET", path, params=query)

    async def socket(self, listener: str) -> aiohttp.ClientWebSocketResponse:
        """A socket that gets the messages of all prompts that were queued under the id `listener`."""
        try:
            return await self._open_session.ws_connect(
                f"{self.url}/ws?clientId={listener}", heartbeat=HEARTBEAT_SECONDS, max_msg_size=0
            )
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from error

    async def _request(self, method: str, path: str, **arguments: Any) -> tuple[int, bytes]:
        try:
            async with self._open_session.request(method, f"{self.url}{path}", **arguments) as response:
                content = await response.read()
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from error
        if response.status in UNREACHABLE:
            raise UnreachableError(
                f"{self.url} answered HTTP status {response.status}: its gateway does not reach ComfyUI."
            )
        return response.status, content

    def _unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(
            f"The connection to {self.url} failed: {error or type(error).__name__}. "
            "Check that ComfyUI is running there and that the address is right."
        )


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
