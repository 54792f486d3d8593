"""All edits on several servers at once: whoever is free takes the next, one that fails is left out and asked again."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from ..client import ComfyClient, NodeProgress
from ..errors import ComfyError, HangingError, ManifestError, RemovedError, UnreachableError, UnreadableSourceError
from ..following import WAITING
from .edit import make_picture
from .limits import FailuresInARow, SignsOfLife, TimeLimit, is_rid_of_work, unless_it_hangs
from .run import ManifestRun
from .work import LOST_LIMIT, OpenEdit, ServerState, Work

log = logging.getLogger(__name__)

DEPTH = 2
"""Edits in a server's queue: while one runs, the next is uploaded and the last downloaded."""
PAUSES = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Before a server that failed is asked again."""
BLAME_LIMIT = 2
GIVE_UP_SECONDS = 600.0
"""Without any server."""
RETRY_SECONDS = (0.5, 1.0, 2.0)
"""Where others can take over, a lost server is not waited for as long as it would be alone."""


class ServersRun:
    """All edits of a run on given servers.

    Args:
        clients: connections to the servers, open.
        on_done: called after every edit with whether it was made.
        limit: for a server that hangs.
        in_a_row: ends a run of which nothing comes any more.
    """

    def __init__(
        self,
        clients: Sequence[ComfyClient],
        run: ManifestRun,
        on_done: Callable[[bool], None],
        limit: TimeLimit,
        in_a_row: FailuresInARow,
    ) -> None:
        self._clients, self._run, self._on_done = clients, run, on_done
        self._limit, self._in_a_row = limit, in_a_row
        self._states = [ServerState(str(client.address)) for client in clients]

    async def make_all(self) -> None:
        """Make the edits that have no line yet.

        Raises:
            ComfyError: no server answers any more, or all edits fail for the same reason.
            OutputError: nothing can be saved any more.
        """
        self._run.servers += self._states
        self._run.begin()
        work = Work(self._run.todo, self._states)
        pairs = zip(self._clients, self._states, strict=True)
        attending = [self._attend(client, state, work) for client, state in pairs]
        await _together(*attending, self._give_up(work))

    async def _attend(self, client: ComfyClient, state: ServerState, work: Work) -> None:
        """Let a server work for as long as it does; when it fails, ask it again after growing pauses."""
        pauses = itertools.chain(PAUSES, itertools.repeat(PAUSES[-1]))
        while not work.finished.is_set():
            try:
                # What it hung on may still be there, and would hold up everything behind it.
                ready = await is_rid_of_work(client) or not state.hung
            except ComfyError as error:
                log.warning("%s is left out: %s", state.name, error)
                ready = False
            if ready:
                before, state.hung = state.made, False
                state.there, state.blamed = True, 0
                work.wake()
                life = SignsOfLife()
                await _together(*(self._work_on(client, state, work, life) for _ in range(DEPTH)))
                if state.made > before:
                    pauses = itertools.chain(PAUSES, itertools.repeat(PAUSES[-1]))
            await _within(work.finished, next(pauses))

    async def _work_on(self, client: ComfyClient, state: ServerState, work: Work, life: SignsOfLife) -> None:
        while (edit := await work.take(state)) is not None:
            begun = asyncio.Event()
            life.sign()
            try:
                making = make_picture(
                    client, self._run.plan, edit.row, self._run.manifest.folder, partial(_note, begun, life, edit)
                )
                made = await unless_it_hangs(making, client, life, self._limit)
            except (UnreachableError, RemovedError) as error:
                # Edits that waited behind the one that was running are not to blame. On which of them a server hangs
                # does not always show.
                edit.lost += begun.is_set() or isinstance(error, (RemovedError, HangingError))
                await self._lost(edit, state, work, error)
            except (ComfyError, ValueError) as error:
                await self._failed(edit, state, work, error)
            else:
                await asyncio.to_thread(self._run.results.keep_picture, edit.row, made)
                state.add(made.seconds)
                self._limit.add(made.seconds or 0.0)
                self._in_a_row.made()
                for other in edit.failed_on:
                    self._blame(other, work)
                self._on_done(True)
                work.done()
            life.ended(id(edit))

    async def _lost(self, edit: OpenEdit, state: ServerState, work: Work, error: ComfyError) -> None:
        state.lost += 1
        state.hung |= isinstance(error, HangingError)
        if not isinstance(error, RemovedError):
            self._leave_out(state, work, str(error))
        if edit.lost < LOST_LIMIT:
            work.give_back(edit)
        else:
            reason = f"{edit.lost} times the server was lost, or the prompt removed, during this edit. {error}"
            await self._fail(edit, state, work, reason)

    async def _failed(self, edit: OpenEdit, state: ServerState, work: Work, error: Exception) -> None:
        edit.failed_on.append(state)
        if work.others(edit, state) and len(edit.failed_on) < 2:
            # Whether it is the edit or the server shows on another one.
            work.give_back(edit)
            return
        await self._fail(edit, state, work, str(error))
        if not isinstance(error, UnreadableSourceError):
            self._in_a_row.failed(str(error))

    async def _fail(self, edit: OpenEdit, state: ServerState, work: Work, reason: str) -> None:
        await asyncio.to_thread(self._run.results.keep_failure, edit.row, reason, state.name)
        state.failed += 1
        self._on_done(False)
        work.done()

    def _blame(self, state: ServerState, work: Work) -> None:
        state.blamed += 1
        if state.blamed >= BLAME_LIMIT:
            self._leave_out(state, work, f"{state.blamed} edits in a row failed on it that others made.")

    def _leave_out(self, state: ServerState, work: Work, reason: str) -> None:
        if state.there:
            log.warning("%s is left out and asked again later: %s", state.name, reason)
        state.there = False
        work.wake()

    async def _give_up(self, work: Work) -> None:
        """When no server has answered for a long time."""
        clock = asyncio.get_running_loop()
        last = clock.time()
        while not await _within(work.finished, 1.0):
            if any(state.there for state in self._states):
                last = clock.time()
            elif clock.time() - last > GIVE_UP_SECONDS:
                raise ComfyError(
                    f"No server has answered or got on with its work for {GIVE_UP_SECONDS / 60:.0f} minutes. What is "
                    "finished is kept; run the same command again when there is one."
                )


async def check_inputs(client: ComfyClient, added: Mapping[tuple[str, str], str]) -> None:
    """Make sure that the nodes have the inputs that something sets: servers drop what they do not know.

    Args:
        added: from `added_places`.

    Raises:
        ManifestError: a node has no such input.
        ComfyError: no connection.
    """
    problems = []
    for (node_class, name), row in added.items():
        known = await client.input_names(node_class)
        if name not in known:
            listed = ", ".join(known) or "none, as it does not know this class of nodes"
            problems.append(f"The row {row!r} sets {node_class}.{name}. The node's inputs on the server: {listed}.")
    if problems:
        raise ManifestError("\n".join(problems))


def _note(begun: asyncio.Event, life: SignsOfLife, edit: OpenEdit, progress: NodeProgress) -> None:
    life.went_on(id(edit), progress)
    if progress.node != WAITING:
        begun.set()


async def _together(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all at once; the first that fails, or a cancellation, ends all, and is raised when they have ended."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, but not for longer; whether it has come."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
