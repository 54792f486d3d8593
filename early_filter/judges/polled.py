"""Waits for asynchronous work and can be interrupted meanwhile."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..judge import Poll

POLL_SECONDS = 0.05

Result = TypeVar("Result")


def run_polled(work: Coroutine[Any, Any, Result], poll: Poll) -> Result:
    """Run `work` on an event loop in a thread of its own; it is cancelled as soon as `poll` raises."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="ICEdit judge", daemon=True)
    thread.start()
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        while not concurrent.futures.wait([future], POLL_SECONDS).done:
            poll()
        return future.result()
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
