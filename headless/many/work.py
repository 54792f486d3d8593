"""The rows that are still to be done, and who may take the next one."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from .manifest import ManifestRow

LOST_LIMIT = 3
"""An edit at which a server was lost so often is taken for the reason."""


@dataclass
class ServerState:
    """How a server does.

    Attributes:
        there: it takes work.
        hung: it was left out because it did not go on with its work.
        blamed: edits in a row that it failed and another server made.
    """

    name: str
    there: bool = False
    hung: bool = False
    blamed: int = 0
    made: int = 0
    failed: int = 0
    lost: int = 0
    seconds: float = 0.0

    def add(self, seconds: float | None) -> None:
        """An edit that it made, and how long it worked on it."""
        self.made, self.blamed = self.made + 1, 0
        self.seconds += seconds or 0.0


@dataclass
class OpenEdit:
    """A row until its result is known.

    Attributes:
        failed_on: the servers on which it failed.
        lost: how often a server was lost while it worked on it.
    """

    row: ManifestRow
    failed_on: list[ServerState] = field(default_factory=list)
    lost: int = 0


class Work:
    """Hands out rows, and takes back those whose server was lost; on one event loop."""

    def __init__(self, rows: Iterable[ManifestRow], servers: list[ServerState]) -> None:
        self.servers = servers
        self._fresh = iter(rows)
        # One row ahead, so that the end is known with the last result and not when a server asks for more.
        self._head = next(self._fresh, None)
        self._again: deque[OpenEdit] = deque()
        self._out = 0
        self._changed = asyncio.Event()
        self.finished = asyncio.Event()
        self._note_the_end()

    async def take(self, server: ServerState) -> OpenEdit | None:
        """The next edit for a server; None if all are done, or the server has been left out meanwhile."""
        while server.there and not self.finished.is_set():
            edit = self._next(server)
            if edit is not None:
                self._out += 1
                return edit
            # Edits on other servers may still come back.
            self._changed.clear()
            await self._changed.wait()
        return None

    def done(self) -> None:
        self._out -= 1
        self._note_the_end()
        self.wake()

    def give_back(self, edit: OpenEdit) -> None:
        self._again.append(edit)
        self.done()

    def wake(self) -> None:
        self._changed.set()

    def others(self, edit: OpenEdit, server: ServerState) -> bool:
        """Whether another server, on which the edit has not failed yet, takes work."""
        return any(other.there and other is not server and other not in edit.failed_on for other in self.servers)

    def _next(self, server: ServerState) -> OpenEdit | None:
        for edit in self._again:
            if server not in edit.failed_on or not self.others(edit, server):
                self._again.remove(edit)
                return edit
        if self._head is None:
            return None
        row, self._head = self._head, next(self._fresh, None)
        return OpenEdit(row)

    def _note_the_end(self) -> None:
        if self._out == 0 and not self._again and self._head is None:
            self.finished.set()
