"""The command line's `--manifest`: from its options to the closing table."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .. import embedded
from ..address import ServerAddress
from ..batch import OutputError
from ..client import ComfyClient
from ..errors import ComfyError
from .fingerprint import fingerprint_of
from .limits import SAME_REASON, FailuresInARow, TimeLimit
from .manifest import Problems, read_manifest
from .packed import PARQUET, TAR, check_packing, pack
from .plan import ManifestSettings, added_places, make_plan, mention_descriptions
from .ray_run import LOCAL, RayOptions, run_on_ray
from .report import closing_table
from .results import FAILED, OK, opened_results
from .run import ManifestRun
from .servers import RETRY_SECONDS, ServersRun, check_inputs

SHOW_SECONDS = 0.5, 30.0
"""Between two states of the progress, on a terminal and in a log."""


def add_manifest_options(parser: argparse.ArgumentParser) -> None:
    many = parser.add_argument_group("thousands of pictures")
    many.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="edit what a .jsonl, .csv, .parquet or .tar (web dataset) says: id, picture, instruction and, where "
        "wanted, seed, description, region, workflow, output, set.NODE.INPUT; or every picture of a folder. Results "
        "are <id>.png and a line in results.jsonl; the same command goes on where it ended. Takes several addresses "
        "after --server",
    )
    many.add_argument("--retry-failed", action="store_true", help="also try the edits again that failed before")
    many.add_argument(
        "--result",
        metavar="NODE",
        help="the id of the node whose picture is kept (default: the first Save Image of the workflow)",
    )
    many.add_argument(
        "--ray",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help="work on a Ray cluster, or on this machine by a local Ray: one actor for each --server, or for each GPU "
        "with a ComfyUI of its own; all machines must see the pictures at the same paths",
    )
    many.add_argument("--actors", type=int, metavar="N", help="how many of them (default: as said at --ray)")
    _add_limits_and_shards(many)


def _add_limits_and_shards(many: argparse._ArgumentGroup) -> None:
    many.add_argument(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help="after which a server with work that ends neither an edit nor a step is left out, 0 for never (default: "
        "ten times the slowest edit so far, at least ten minutes; an hour before the first edit is made)",
    )
    many.add_argument(
        "--stop-after",
        type=int,
        metavar="N",
        help=f"end the run when N edits in a row failed for the same reason, 0 for never (default: {SAME_REASON})",
    )
    many.add_argument(
        "--shards",
        choices=(PARQUET, TAR),
        help="at the end also write all edits into shards with source, result and instruction inside, in the folder "
        "shards of the results: parquet tables, or web datasets",
    )


def check_manifest_options(options: argparse.Namespace, refuse: Callable[[str], object]) -> None:
    """Refuse options that do not go together."""
    if options.manifest is not None:
        if options.picture:
            refuse("--picture and --manifest do not go together: the manifest names the pictures")
        if options.actors is not None and (options.ray is None or options.actors < 1):
            refuse("--actors is for --ray, and at least 1")
        if (options.time_limit or 0) < 0 or (options.stop_after or 0) < 0:
            refuse("--time-limit and --stop-after are at least 0")
        return
    for name in ("retry_failed", "result", "time_limit", "stop_after", "shards", "ray", "actors"):
        if getattr(options, name) not in (None, False):
            refuse(f"--{name.replace('_', '-')} is for --manifest")
    if options.server is not None and len(options.server) > 1:
        refuse("several addresses after --server are for --manifest")


def edit_manifest(options: argparse.Namespace, tell: Callable[[str], None]) -> bool:
    """Make the edits of a manifest that are not made yet; whether all are made at the end.

    Args:
        tell: gets the closing table, also when the run is stopped.

    Raises:
        ManifestError: the manifest, its workflows or the folder of the results are not usable.
        OutputError: nothing can be saved.
        ComfyError: there is no server to work on.
    """
    check_packing(options.shards)
    problems = Problems()
    manifest = read_manifest(options.manifest, options.instruction or (), problems)
    plan = make_plan(manifest, _settings(options), problems)
    problems.raise_any(options.manifest)
    mention_descriptions(plan, manifest.rows)
    addresses = [ServerAddress.of(text, os.environ) for text in options.server or ()]
    fingerprint = fingerprint_of(manifest, plan)
    with opened_results(options.output, fingerprint, manifest.rows, options.retry_failed) as results:
        run = ManifestRun(manifest, plan, results)
        try:
            if run.left:
                _make_all(options, addresses, run)
        finally:
            tell(closing_table(run))
        if options.shards is not None and run.count(OK):
            try:
                tell(f"Their shards are in {pack(run, options.shards)}.")
            except OSError as error:
                raise OutputError(f"The shards cannot be written: {error.strerror or error}.") from error
    return run.all_made


def _settings(options: argparse.Namespace) -> ManifestSettings:
    mini = options.server is None and options.comfyui is None
    return ManifestSettings(
        str(options.workflow), mini, options.seed, options.description, tuple(options.set), options.result
    )


def _make_all(options: argparse.Namespace, addresses: Sequence[ServerAddress], run: ManifestRun) -> None:
    limit = TimeLimit(options.time_limit)
    in_a_row = FailuresInARow(SAME_REASON if options.stop_after is None else options.stop_after)
    if options.ray is not None:
        own = [None if path is None else str(path.absolute()) for path in (options.comfyui, options.comfyui_python)]
        ray = RayOptions(options.ray, options.actors, tuple(addresses), (own[0], own[1], options.comfyui_option))
        with _progress(run) as on_done:
            run_on_ray(ray, run, on_done, limit, in_a_row)
    elif addresses:
        asyncio.run(_make_all_on(addresses, run, limit, in_a_row))
    else:
        with embedded.started_server(options.comfyui, options.comfyui_python, options.comfyui_option) as url:
            asyncio.run(_make_all_on([ServerAddress.of(url)], run, limit, in_a_row))


async def _make_all_on(
    addresses: Sequence[ServerAddress], run: ManifestRun, limit: TimeLimit, in_a_row: FailuresInARow
) -> None:
    retry_seconds = RETRY_SECONDS if len(addresses) > 1 else None
    async with AsyncExitStack() as stack:
        # Into the temp folder: thousands of sources would stay in the input folder and fill the page's lists.
        clients = [
            await stack.enter_async_context(ComfyClient(address, "temp", retry_seconds)) for address in addresses
        ]
        answers = await asyncio.gather(*(client.check() for client in clients), return_exceptions=True)
        there = [client for client, answer in zip(clients, answers, strict=True) if answer is None]
        if not there:
            raise ComfyError("\n".join(str(answer) for answer in answers))
        await check_inputs(there[0], added_places(run.plan, run.manifest.rows))
        with _progress(run) as on_done:
            await ServersRun(clients, run, on_done, limit, in_a_row).make_all()


@contextmanager
def _progress(run: ManifestRun) -> Iterator[Callable[[bool], None]]:
    """Calls of what it yields, with whether an edit was made, move a bar with rate and time left."""
    failed, interval = run.count(FAILED), SHOW_SECONDS[not sys.stderr.isatty()]
    with (
        logging_redirect_tqdm([logging.getLogger()]),
        tqdm(total=run.total, initial=run.before, unit="edit", dynamic_ncols=True, mininterval=interval) as bar,
    ):

        def on_done(made: bool) -> None:
            nonlocal failed
            failed += not made
            if failed:
                bar.set_postfix_str(f"{failed} failed", refresh=False)
            bar.update()

        yield on_done
