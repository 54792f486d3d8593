"""When a run stops waiting for a server, and when it stops altogether."""

import asyncio
import re
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..client import ComfyClient, NodeProgress
from ..errors import ComfyError, HangingError

LEAST_SECONDS = 600.0
FIRST_SECONDS = 3600.0
"""Before an edit has been made: the first loads the models, which a slow disk takes long for."""
TIMES_THE_SLOWEST = 10.0
LOOK_SECONDS = 2.0
SAME_REASON = 20

Made = TypeVar("Made")


@dataclass
class TimeLimit:
    """For how long a server may give no sign of life while it has work.

    Args:
        given: by the user; 0 for no limit, None for one that follows from the edits that were made.
    """

    given: float | None = None
    slowest: float | None = None

    def add(self, seconds: float) -> None:
        """An edit that was made."""
        self.slowest = max(seconds, self.slowest or 0.0)

    @property
    def seconds(self) -> float | None:
        """None for no limit."""
        if self.given is not None:
            return self.given or None
        return FIRST_SECONDS if self.slowest is None else max(LEAST_SECONDS, TIMES_THE_SLOWEST * self.slowest)


@dataclass
class SignsOfLife:
    """When a server last began or ended an edit, or went on by a step.

    Attributes:
        hung: it was found that it does not; then all its edits are taken back.
    """

    last: float = field(default_factory=time.monotonic)
    hung: bool = False
    _steps: dict[int, NodeProgress] = field(default_factory=dict)

    def sign(self) -> None:
        self.last = time.monotonic()

    def went_on(self, edit: int, progress: NodeProgress) -> None:
        """A server without a socket is asked again and again, and says the same."""
        if self._steps.get(edit) != progress:
            self._steps[edit] = progress
            self.sign()

    def ended(self, edit: int) -> None:
        self._steps.pop(edit, None)
        self.sign()


async def unless_it_hangs(
    work: Coroutine[Any, Any, Made], client: ComfyClient, life: SignsOfLife, limit: TimeLimit
) -> Made:
    """The work's result.

    Raises:
        HangingError: the server has given no sign of life for too long; the work is taken back.
    """
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_SECONDS)
            if not task.done() and await _hangs(client, life, limit):
                life.hung = True
                raise HangingError(
                    f"{client.address} has work, but ended neither an edit nor a step of one for "
                    f"{time.monotonic() - life.last:.0f} seconds. --time-limit sets how long it may."
                )
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _hangs(client: ComfyClient, life: SignsOfLife, limit: TimeLimit) -> bool:
    seconds = limit.seconds
    if life.hung or seconds is None or time.monotonic() - life.last <= seconds:
        return life.hung
    try:
        running, _ = await client.queue()
    except ComfyError:
        return True
    if client.prompts.issuperset(running):
        return True
    # It works for others first.
    life.sign()
    return False


async def is_rid_of_work(client: ComfyClient) -> bool:
    """Whether a server has nothing more of what was taken back from it.

    Raises:
        ComfyError: it does not answer.
    """
    running, waiting = await client.queue()
    return client.prompts.isdisjoint((*running, *waiting))


class FailuresInARow:
    """Ends a run whose edits all fail for the same reason, which is the servers', not theirs.

    Args:
        limit: so many; 0 for no end.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._reason, self._count = limit, "", 0

    def made(self) -> None:
        self._count = 0

    def failed(self, reason: str) -> None:
        """
        Raises:
            ComfyError: it has been the reason so often that others would fail for it, too.
        """
        # Sizes of memory and the like differ; a file's name is that of another edit.
        same = re.sub(r"'[^']*'|\d+", lambda found: found[0] if found[0].startswith("'") else "#", reason)
        self._count = self._count + 1 if same == self._reason else 1
        self._reason = same
        if self._limit and self._count >= self._limit:
            raise ComfyError(
                f"The last {self._count} edits all failed for the same reason, so the run ends here: {reason}\nWhen it "
                "is mended, the same command with --retry-failed makes these again and goes on. If it is about the "
                "edits and not about the server, the same command goes on without them; --stop-after sets how many it "
                "takes, 0 is never."
            )
