"""One row of a manifest on one server."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ..answers import items, mapping
from ..batch import finished_run
from ..client import ComfyClient, NodeProgress
from ..errors import GoneError
from ..outputs import RunResult
from ..workflow import with_new_results
from .manifest import ManifestRow
from .plan import ManifestPlan
from .results import MadePicture
from .shards import read_source


async def make_picture(
    client: ComfyClient,
    plan: ManifestPlan,
    row: ManifestRow,
    folder: Path,
    on_progress: Callable[[NodeProgress], None] | None = None,
) -> MadePicture:
    """Upload the row's files, run its workflow, fetch the result.

    Args:
        folder: that the row's paths start from.

    Raises:
        UnreachableError, RemovedError: the server is to blame, and another one may make this picture.
        ComfyError: the edit failed.
    """
    picture = await _uploaded(client, folder / row.picture)
    region = await _uploaded(client, folder / row.region) if row.region else None
    workflow = plan.filled(row, picture, region)
    run = await finished_run(client, workflow, on_progress)
    try:
        content = await client.download(run.pictures[0])
    except GoneError:
        # Servers remember what a node has done, not whether the files of it are still there.
        run = await finished_run(client, with_new_results(workflow, [run.pictures[0].node]), on_progress)
        content = await client.download(run.pictures[0])
    seed, score = _winner(run)
    seed = plan.seed_of(workflow) if seed is None else seed
    suffix = PurePosixPath(run.pictures[0].filename).suffix.lower()
    usable = suffix[1:].isalnum() and suffix.isascii()
    return MadePicture(content, suffix if usable else ".png", seed, score, run.seconds, str(client.address))


async def _uploaded(client: ComfyClient, path: Path) -> str:
    # Servers look for a free name one after the other: files of the same name from many folders must not meet there.
    # The same file keeps its name, so that its edits share what the server remembers of it.
    digest = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()
    return await client.upload(f"{digest[:12]}{path.suffix}", await asyncio.to_thread(read_source, path))


def _winner(run: RunResult) -> tuple[int | None, float | None]:
    """Seed and score of the candidate that an early filter took."""
    for output in run.outputs.values():
        for candidate in map(mapping, items(mapping(output).get("icedit_candidates"))):
            if candidate.get("picked") is False:
                continue
            seed, score = str(candidate.get("seed")), candidate.get("score")
            known = float(score) if isinstance(score, (int, float)) and not isinstance(score, bool) else None
            return int(seed) if seed.isdecimal() else None, known
    return None, None
