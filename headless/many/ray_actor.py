"""What runs in Ray's worker processes: an actor that owns one server.

Ray sends these classes by value, to processes that do not have the pack yet: what they need of it is imported inside
their methods.
"""

import asyncio
import importlib.util
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Coroutine
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

PACKAGE = "icedit"
PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0, 60.0)
"""Before the servers are asked again, when none of them answered."""
STARTS = 3
"""Of an actor's own server for one edit: one that it cannot survive is not tried for ever."""


def load_pack(pack: str) -> None:
    """As `python -m headless` does it; on another machine Ray unpacks it into the current folder."""
    if PACKAGE in sys.modules:
        return
    folder = Path(pack) if (Path(pack) / "headless").is_dir() else Path.cwd()
    place = [str(folder)]
    spec = importlib.util.spec_from_file_location(PACKAGE, folder / "__init__.py", submodule_search_locations=place)
    assert spec is not None and spec.loader is not None
    sys.modules[PACKAGE] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


class ServerNumbers:
    """Gives every actor one of the servers; an actor that is started again keeps its own."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._of: dict[str, int] = {}

    def of(self, actor: str) -> int:
        return self._of.setdefault(actor, len(self._of) % self._count)


class EditActor:
    """Makes the edits of the rows that it is called with, as many at once as it is called.

    Args:
        pack: this pack's folder.
        plan, folder: of the manifest.
        servers: the given ones, as the values of their addresses; none for a server of its own.
        own: the arguments of `embedded.started_server` for that one.
        added: inputs that something sets, as class, name and a row: only a server knows whether there are such.
        numbers: an actor of `ServerNumbers`.
        time_limit: as the user gave it.
    """

    def __init__(
        self,
        pack: str,
        plan: str,
        folder: str,
        servers: list[tuple[Any, ...]],
        own: tuple[str | None, str | None, list[str]],
        added: list[tuple[str, str, str]],
        numbers: Any,
        time_limit: float | None,
    ) -> None:
        load_pack(pack)
        from icedit.headless.address import ServerAddress
        from icedit.headless.many.limits import SignsOfLife, TimeLimit
        from icedit.headless.many.plan import ManifestPlan

        self._plan, self._folder = ManifestPlan.from_json(plan), Path(folder)
        self._hung: set[Any] = set()
        self._limit, self._lives = TimeLimit(time_limit), defaultdict[Any, SignsOfLife](SignsOfLife)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._own = None if servers else own
        self._process, self._starting, self._starts = ExitStack(), threading.Lock(), 0
        self._clients: list[Any] = []
        if servers:
            import ray

            first = ray.get(numbers.of.remote(ray.get_runtime_context().get_actor_id()))
            self._clients = [self._client(ServerAddress(*values)) for values in (*servers[first:], *servers[:first])]
        else:
            self._start(0)
        if added:
            from icedit.headless.many.servers import check_inputs

            self._run(check_inputs(self._clients[0], {(kind, name): row for kind, name, row in added}))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The picture of a row, why it failed and whether on the server, or why it is left for another run."""
        from icedit.headless.errors import ComfyError, RemovedError, UnreachableError, UnreadableSourceError
        from icedit.headless.many.manifest import ManifestRow

        answer = {"row": row["row"], "picture": b"", "how": "", "error": "", "left": False, "servers": False}
        try:
            made = self._made(ManifestRow.from_json(row["row"]))
        except (ComfyError, ValueError) as error:
            left = isinstance(error, (UnreachableError, RemovedError))
            servers = not isinstance(error, UnreadableSourceError)
            return answer | {"error": str(error), "left": left, "servers": servers}
        how = {name: value for name, value in vars(made).items() if name != "content"}
        return answer | {"picture": made.content, "how": json.dumps(how)}

    def _made(self, row: Any) -> Any:
        from icedit.headless.errors import ComfyError, RemovedError, UnreachableError

        pauses = PAUSES if self._own is None else (0.0,) * STARTS
        for pause in (*pauses, None):
            starts = self._starts
            # Its own of the given ones first; where that is down another one does.
            for client in self._clients:
                try:
                    return self._run(self._watched(client, row))
                except (UnreachableError, RemovedError) as error:
                    if pause is None and self._own is not None:
                        # The server was there again each time: then it is the edit.
                        raise ComfyError(f"The server was lost {STARTS + 1} times during this edit. {error}") from error
                    if pause is None and client is self._clients[-1]:
                        raise
            time.sleep(pause or 0.0)
            if self._own is not None:
                self._start(starts)
        raise AssertionError("unreachable: the last try returns or raises")

    async def _watched(self, client: Any, row: Any) -> Any:
        from icedit.headless.errors import UnreachableError
        from icedit.headless.many.edit import make_picture
        from icedit.headless.many.limits import is_rid_of_work, unless_it_hangs

        if client in self._hung and not await is_rid_of_work(client):
            raise UnreachableError(f"{client.address} does not go on with its work.")
        self._hung.discard(client)
        life = self._lives[client]
        life.sign()
        making = make_picture(client, self._plan, row, self._folder, partial(life.went_on, id(row)))
        try:
            made = await unless_it_hangs(making, client, life, self._limit)
        finally:
            life.ended(id(row))
            if life.hung:
                # Its other edits keep this one.
                self._lives.pop(client, None)
                self._hung.add(client)
        self._limit.add(made.seconds or 0.0)
        return made

    def _start(self, starts: int) -> None:
        """Start its own server, unless another call has done it since there had been so many starts.

        Raises:
            UnreachableError: it does not start.
        """
        from icedit.headless.address import ServerAddress
        from icedit.headless.embedded import started_server
        from icedit.headless.errors import ComfyError, UnreachableError

        assert self._own is not None
        comfyui, python, arguments = self._own
        with self._starting:
            if self._starts != starts:
                return
            self._process.close()
            starting = started_server(comfyui and Path(comfyui), python and Path(python), arguments)
            try:
                url = self._process.enter_context(starting)
            except ComfyError as error:
                raise UnreachableError(str(error)) from error
            self._clients = [self._client(ServerAddress.of(url))]
            self._starts += 1

    def _client(self, address: Any) -> Any:
        from icedit.headless.client import ComfyClient
        from icedit.headless.many.servers import RETRY_SECONDS

        client = ComfyClient(address, "temp", RETRY_SECONDS)
        self._run(client.__aenter__())
        return client

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
