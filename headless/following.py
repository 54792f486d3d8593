"""Following one prompt to its end, through lost connections and other hands on the server's queue."""

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

import aiohttp

from .connection import ComfyError, Connection, UnreachableError

log = logging.getLogger(__name__)

SILENCE_SECONDS = 30.0
"""The server says nothing to the owner of a prompt that someone removes, so its silence is a reason to ask."""
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)
"""The waits before each try to reach a server again. The first also slows down sockets that are closed at once."""
HISTORY_SECONDS = 0.1
ANSWER = aiohttp.ClientTimeout(connect=30, sock_read=60)
SOCKET_ENDS = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.ERROR,
)


class Follower:
    """One prompt's socket. Enter before queueing the prompt under the id `listener`, so that no message is missed.

    Args:
        connection: to the server, open.
        report: called with the node's id, the steps done and all its steps.
    """

    def __init__(self, connection: Connection, report: Callable[[str, int, int], None]) -> None:
        # The server keeps one socket for each id: prompts that shared one would take the messages from each other.
        self.listener = uuid.uuid4().hex
        self._connection = connection
        self._report = report
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._prompt_id = ""
        self._queue_length: int | None = None
        self._succeeded = False

    async def __aenter__(self) -> "Follower":
        await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._disconnect()

    async def outputs_of(self, prompt_id: str) -> dict[str, Any]:
        """Wait for the prompt's end; what its nodes put out.

        Raises:
            ComfyError: it failed, was interrupted or removed, or the server could not be reached again.
        """
        self._prompt_id = prompt_id
        while True:
            connected = await self._listen()
            entry = await self._ask(connected)
            if entry is not None:
                return _outputs(entry)

    async def _listen(self) -> bool:
        """Take messages until there is a reason to ask the server; False if the socket is closed or silent."""
        if self._succeeded:
            # The server announces success a moment before it writes its history.
            await asyncio.sleep(HISTORY_SECONDS)
            return True
        assert self._socket is not None
        clock = asyncio.get_running_loop()
        deadline = clock.time() + SILENCE_SECONDS
        while (left := deadline - clock.time()) > 0:
            try:
                message = await self._socket.receive(left)
            except asyncio.TimeoutError:
                return False
            if message.type in SOCKET_ENDS:
                return False
            event = json.loads(message.data) if message.type is aiohttp.WSMsgType.TEXT else {}
            kind, data = str(event.get("type")), event.get("data")
            # Node packs send events of their own, with data of any type.
            if not isinstance(data, dict):
                continue
            if kind == "status" and self._queue_shrank(data):
                return True
            if data.get("prompt_id") == self._prompt_id:
                deadline = clock.time() + SILENCE_SECONDS
                self._take(kind, data)
                if self._succeeded:
                    return True
        return False

    def _queue_shrank(self, status: dict[str, Any]) -> bool:
        length = status.get("status", {}).get("exec_info", {}).get("queue_remaining")
        before, self._queue_length = self._queue_length, length
        return before is not None and length is not None and length < before

    def _take(self, kind: str, data: dict[str, Any]) -> None:
        _raise_failure(kind, data)
        if kind == "progress":
            self._report(str(data.get("node")), data["value"], data["max"])
        elif kind == "execution_success":
            self._succeeded = True

    async def _ask(self, connected: bool) -> dict[str, Any] | None:
        """The prompt's entry in the history, None if it has not ended yet; on a new socket if this one is lost."""
        for wait in RETRY_SECONDS:
            try:
                if not connected:
                    await asyncio.sleep(wait)
                    # Before asking: what ends afterwards is announced on the socket, what ended earlier is answered.
                    await self._connect()
                return await self._entry()
            except UnreachableError as error:
                log.info("%s Trying again.", error)
                connected = False
        raise ComfyError(
            "The connection to the server was lost while it was working. It may have been stopped or run out of "
            "memory; its log says more."
        )

    async def _entry(self) -> dict[str, Any] | None:
        # In this order: a prompt leaves the queue at the moment when it gets into the history.
        queue = await self._connection.json("GET", "/queue", timeout=ANSWER)
        if any(item[1] == self._prompt_id for part in ("queue_running", "queue_pending") for item in queue[part]):
            return None
        history = await self._connection.json("GET", f"/history/{self._prompt_id}", timeout=ANSWER)
        if self._prompt_id in history:
            return history[self._prompt_id]
        if self._succeeded:
            raise ComfyError("The server has forgotten the prompt that it just finished; was its history cleared?")
        raise ComfyError(
            "The prompt was removed from the server's queue: by someone who cleared the queue or deleted the prompt, "
            "or because the server was restarted. Run it again."
        )

    async def _connect(self) -> None:
        await self._disconnect()
        self._queue_length = None
        self._socket = await self._connection.socket(self.listener)

    async def _disconnect(self) -> None:
        if self._socket is not None:
            await self._socket.close()


def _outputs(entry: dict[str, Any]) -> dict[str, Any]:
    status = entry.get("status") or {}
    for kind, data in status.get("messages", []):
        _raise_failure(kind, data)
    if status.get("status_str") == "error":
        raise ComfyError("The server failed to run the workflow and has not recorded why; its log says more.")
    return entry["outputs"]


def _raise_failure(kind: str, data: dict[str, Any]) -> None:
    if kind == "execution_interrupted":
        raise ComfyError("The run was interrupted on the server.")
    if kind == "execution_error":
        node = f"node {data.get('node_id')} ({data.get('node_type')})"
        raise ComfyError(f"The server failed in {node}: {str(data.get('exception_message', '')).strip()}")
