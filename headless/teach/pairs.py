"""Bringing pairs to a server: their pictures and a list of them go into its input folder."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ...training.pairs.listing import ListedPair, PairListing, Stored, described
from ...training.pairs.sources import read_listing
from ..client import ComfyClient
from ..errors import ComfyError
from ..workflow import WorkflowError

FOLDER = "icedit-pairs"
AT_ONCE = 4
"""Uploads on their way together."""


def pairs_here(paths: Sequence[Path], instruction: str) -> PairListing:
    """The pairs in two folders, or in a file or a folder of tables.

    Raises:
        WorkflowError: there is nothing of that name, or nothing that lists pairs.
    """
    for path in paths:
        if not path.exists():
            raise WorkflowError(f"There is no folder or file {path}.")
    try:
        return read_listing(paths[0], paths[1] if len(paths) > 1 else None, instruction=instruction)
    except (ValueError, OSError) as error:
        raise WorkflowError(str(error)) from error


def check_pairs(listing: PairListing, may_skip: bool) -> str | None:
    """What is wrong with pairs that are left out.

    Raises:
        WorkflowError: none is left, or none may be left out.
    """
    if not listing.problems:
        return None
    count = len(listing.problems) + len(listing.rows)
    said = f"{len(listing.problems)} of {count} pairs cannot be used:\n{described(listing.problems)}"
    if not may_skip or not listing.rows:
        raise WorkflowError(f"{said}\nCorrect them, or leave them out with --on-problems skip.")
    return said


async def uploaded(client: ComfyClient, rows: Sequence[ListedPair], on_pair: Callable[[], object]) -> str:
    """Upload the pairs; the name of their list, for the node that loads pairs.

    A file that the server has already is not stored again: files are named by their content.

    Raises:
        ComfyError: a picture cannot be read, no connection, or the server refused it.
    """
    places = asyncio.Semaphore(AT_ONCE)

    async def upload(stored: Stored) -> str:
        try:
            content = await asyncio.to_thread(stored.content)
        except OSError as error:
            raise ComfyError(f"The picture {stored.name} cannot be read: {error.strerror or error}") from error
        return await client.upload(_name(content, _suffix(stored.name)), content, FOLDER)

    async def line(row: ListedPair) -> dict[str, object]:
        async with places:
            source, edited = [(await upload(stored)).rpartition("/")[2] for stored in (row.source, row.edited)]
        on_pair()
        return {
            "id": row.id, "source": source, "edited": edited, "instruction": list(row.instructions), "task": row.task,
            "weight": row.weight,
        }  # fmt: skip

    tasks = [asyncio.ensure_future(line(row)) for row in rows]
    try:
        lines = await asyncio.gather(*tasks)
    finally:
        # After a failure none may go on behind it.
        for task in tasks:
            task.cancel()
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
    return await client.upload(_name(text, ".jsonl"), text, FOLDER)


def _name(content: bytes, suffix: str) -> str:
    return hashlib.sha256(content).hexdigest()[:32] + suffix


def _suffix(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else ".png"
