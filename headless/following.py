"""Following one prompt to its end, also when the connection is lost or others change the server's queue."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import aiohttp

from .answers import count, failure, json_object, mapping, queued, recorded_failure, recorded_seconds
from .connection import Connection
from .errors import ComfyError, RemovedError, SocketRefusedError, UnreachableError

log = logging.getLogger(__name__)

SILENCE_SECONDS = 30.0
"""The server says nothing to the owner of a prompt that someone removes, so its silence is a reason to ask."""
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)
"""The waits before each try to reach a server again. The first also slows down sockets that are closed at once."""
HISTORY_SECONDS = 0.1
POLL_SECONDS = 1.0
"""Between requests, where the server opens no socket."""
WAITING = "waiting in the queue"
WORKING = "the server is working"
"""Reported instead of a node where only the server's queue shows the progress."""
QUEUE_PARTS = ("queue_running", "queue_pending")
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
        report: called with the node's id, the steps done and all its steps; with `WAITING` and the prompts before this
            one, or `WORKING`, where the server does not tell of nodes.
        retry_seconds: the waits before each try to reach a server again (default: RETRY_SECONDS).

    Attributes:
        seconds: for which the server worked on the prompt, once it has ended, if the server says so.
    """

    def __init__(
        self,
        connection: Connection,
        report: Callable[[str, int, int], None],
        retry_seconds: Sequence[float] | None = None,
    ) -> None:
        self.seconds: float | None = None
        self._retry_seconds = RETRY_SECONDS if retry_seconds is None else retry_seconds
        # The server keeps one socket for each id: prompts that shared one would take the messages from each other.
        self.listener = uuid.uuid4().hex
        self._connection = connection
        self._report = report
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._refusal: str | None = None
        self._prompt_id = ""
        self._queue_length: int | None = None
        self._before = 0
        self._succeeded = False

    async def __aenter__(self) -> "Follower":
        await self._connect()
        if self._socket is None:
            # Whether it is the socket alone that fails, or the server: then this says what is wrong with it.
            await queue_of(self._connection)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._disconnect()

    async def outputs_of(self, prompt_id: str) -> dict[str, Any]:
        """Wait for the prompt's end; returns the outputs of its nodes.

        Raises:
            UnreachableError: the server could not be reached again.
            RemovedError: it left the queue without being run.
            ComfyError: it failed or was interrupted.
        """
        self._prompt_id = prompt_id
        while True:
            connected = await self._listen()
            entry = await self._ask(connected)
            if entry is not None:
                if reason := recorded_failure(entry):
                    raise ComfyError(self._connection.address.clean(reason))
                self.seconds = recorded_seconds(entry)
                return dict(mapping(entry.get("outputs")))

    async def _listen(self) -> bool:
        """Take messages until there is a reason to ask the server; returns False if the socket is closed or silent."""
        if self._succeeded:
            # The server announces success a moment before it writes its history.
            await asyncio.sleep(HISTORY_SECONDS)
            return True
        if self._socket is None:
            if self._refusal is None:
                return False
            self._connection.tell_of_refused_socket(self._refusal)
            await asyncio.sleep(POLL_SECONDS)
            return True
        clock = asyncio.get_running_loop()
        deadline = clock.time() + SILENCE_SECONDS
        while (left := deadline - clock.time()) > 0:
            try:
                message = await self._socket.receive(left)
            except asyncio.TimeoutError:
                return False
            if message.type in SOCKET_ENDS:
                return False
            # Node packs and gateways send what they like.
            event = json_object(message.data) if message.type is aiohttp.WSMsgType.TEXT else None
            kind, data = mapping(event).get("type"), mapping(mapping(event).get("data"))
            if kind == "status" and self._queue_shrank(data):
                return True
            if data.get("prompt_id") == self._prompt_id:
                deadline = clock.time() + SILENCE_SECONDS
                self._take(kind, data)
                if self._succeeded:
                    return True
        return False

    def _queue_shrank(self, status: Mapping[str, Any]) -> bool:
        length = count(mapping(mapping(status.get("status")).get("exec_info")).get("queue_remaining"))
        before, self._queue_length = self._queue_length, length
        return before is not None and length is not None and length < before

    def _take(self, kind: Any, data: Mapping[str, Any]) -> None:
        if reason := failure(kind, data):
            raise ComfyError(self._connection.address.clean(reason))
        value, total = count(data.get("value")), count(data.get("max"))
        if kind == "progress" and value is not None and total is not None:
            self._report(str(data.get("node")), value, total)
        elif kind == "execution_success":
            self._succeeded = True

    async def _ask(self, connected: bool) -> Mapping[str, Any] | None:
        """The prompt's entry in the history, None if it has not ended yet; on a new socket if this one is lost."""
        for wait in self._retry_seconds:
            try:
                if not connected:
                    await asyncio.sleep(wait)
                    # Before asking: the socket announces what ends afterwards, the answer has what ended earlier.
                    await self._connect()
                return await self._entry()
            except UnreachableError as error:
                log.info("%s Trying again.", error)
                connected = False
        raise UnreachableError(
            "The connection to the server was lost while it was working. It may have been stopped or run out of "
            "memory; its log says more."
        )

    async def _entry(self) -> Mapping[str, Any] | None:
        # In this order: a prompt leaves the queue at the moment when it gets into the history.
        queue = await queue_of(self._connection)
        if self._in_queue(queue):
            return None
        history = await self._connection.json("GET", f"/history/{self._prompt_id}", timeout=ANSWER)
        if isinstance(history.get(self._prompt_id), dict):
            return history[self._prompt_id]
        if self._succeeded:
            raise RemovedError("The server has forgotten the prompt that it just finished; was its history cleared?")
        raise RemovedError(
            "The prompt was removed from the server's queue: by someone who cleared the queue or deleted the prompt, "
            "or because the server was restarted. Run it again."
        )

    def _in_queue(self, queue: Mapping[str, Any]) -> bool:
        running, pending = ([prompt_id for _, prompt_id in queued(queue, part)] for part in QUEUE_PARTS)
        if self._prompt_id in running:
            if self._socket is None:
                self._report(WORKING, 0, 1)
            return True
        if self._prompt_id not in pending:
            return False
        if self._socket is None:
            before = pending.index(self._prompt_id) + len(running)
            self._before = max(self._before, before)
            self._report(WAITING, self._before - before, self._before)
        return True

    async def _connect(self) -> None:
        """Open a new socket. Where there is none, the queue and the history are asked instead."""
        await self._disconnect()
        self._queue_length = None
        if self._refusal is not None:
            return
        # Whether the server cannot be reached at all shows in the request that follows.
        with suppress(UnreachableError):
            try:
                self._socket = await self._connection.socket(self.listener)
            except SocketRefusedError as error:
                self._refusal = str(error)

    async def _disconnect(self) -> None:
        if self._socket is not None:
            await self._socket.close()
            self._socket = None


async def queue_of(connection: Connection) -> dict[str, Any]:
    """The server's queue.

    Raises:
        UnreachableError: no connection.
        ComfyError: it wants a login, or does not answer like a ComfyUI server.
    """
    queue = await connection.json("GET", "/queue", timeout=ANSWER)
    if not isinstance(queue.get("queue_running"), list) or not isinstance(queue.get("queue_pending"), list):
        raise connection.unlike_comfyui("/queue")
    return queue
