"""The command line's `--manifest`: from its options to the closing table."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .. import embedded
from ..address import ServerAddress
from ..client import ComfyClient
from ..errors import ComfyError, ManifestError
from .fingerprint import fingerprint_of
from .manifest import Manifest, ManifestRow, Problems, read_manifest
from .plan import Plan, Settings, added_places, make_plan
from .report import closing_table
from .results import ResultsFolder, opened_results
from .servers import RETRY_SECONDS, ServersRun

SHOW_SECONDS = 0.5, 30.0
"""Between two states of the progress, on a terminal and in a log."""


def add_manifest_options(parser: argparse.ArgumentParser) -> None:
    many = parser.add_argument_group("thousands of pictures")
    many.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="edit what a .jsonl, .csv or .parquet says: id, picture, instruction and, where wanted, seed, "
        "description, region, workflow, output, set.NODE.INPUT; or every picture of a folder. Results are <id>.png and "
        "a line in results.jsonl; the same command goes on where it ended. Takes several addresses after --server",
    )
    many.add_argument("--retry-failed", action="store_true", help="also try the edits again that failed before")
    many.add_argument(
        "--result",
        metavar="NODE",
        help="the id of the node whose picture is kept (default: the first Save Image of the workflow)",
    )


def check_manifest_options(options: argparse.Namespace, refuse: Callable[[str], object]) -> None:
    """Refuse options that do not go together."""
    if options.manifest is not None:
        if options.picture:
            refuse("--picture and --manifest do not go together: the manifest names the pictures")
        return
    for name in ("retry_failed", "result"):
        if getattr(options, name):
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
    problems = Problems()
    manifest = read_manifest(options.manifest, options.instruction or (), problems)
    plan = make_plan(manifest, _settings(options), problems)
    problems.raise_any(options.manifest)
    addresses = [ServerAddress.of(text, os.environ) for text in options.server or ()]
    runs: list[ServersRun] = []
    with opened_results(options.output, fingerprint_of(manifest, plan), manifest.rows, options.retry_failed) as results:
        before = len(results.done)
        try:
            if before < len(manifest.rows):
                _run(options, addresses, manifest, plan, results, runs)
        finally:
            tell(closing_table(len(manifest.rows), results, before, runs))
    return sum(status == "ok" for status in results.done.values()) == len(manifest.rows)


def _settings(options: argparse.Namespace) -> Settings:
    mini = options.server is None and options.comfyui is None
    return Settings(str(options.workflow), mini, options.seed, options.description, tuple(options.set), options.result)


def _run(
    options: argparse.Namespace,
    addresses: Sequence[ServerAddress],
    manifest: Manifest,
    plan: Plan,
    results: ResultsFolder,
    runs: list[ServersRun],
) -> None:
    todo = [row for row in manifest.rows if row.id not in results.done]
    if addresses:
        asyncio.run(_edit(addresses, manifest, plan, results, todo, runs))
        return
    with embedded.started_server(options.comfyui, options.comfyui_python, options.comfyui_option) as url:
        asyncio.run(_edit([ServerAddress.of(url)], manifest, plan, results, todo, runs))


async def _edit(
    addresses: Sequence[ServerAddress],
    manifest: Manifest,
    plan: Plan,
    results: ResultsFolder,
    todo: Sequence[ManifestRow],
    runs: list[ServersRun],
) -> None:
    retry_seconds = RETRY_SECONDS if len(addresses) > 1 else None
    async with AsyncExitStack() as stack:
        # Into the temp folder: thousands of sources would stay in the input folder and fill the page's lists.
        clients = [
            await stack.enter_async_context(ComfyClient(address, "temp", retry_seconds)) for address in addresses
        ]
        await _check_servers(clients, added_places(plan, manifest.rows))
        with _progress(len(manifest.rows), results) as on_done:
            run = ServersRun(clients, plan, manifest.folder, results, on_done)
            runs.append(run)
            await run.run(todo)


async def _check_servers(clients: Sequence[ComfyClient], added: Mapping[tuple[str, str], str]) -> None:
    """Before the work: that there is a server, and that its nodes have the inputs that something sets.

    Raises:
        ComfyError: no server answers.
        ManifestError: a node has no such input.
    """
    answers = await asyncio.gather(*(client.check() for client in clients), return_exceptions=True)
    there = [client for client, answer in zip(clients, answers, strict=True) if answer is None]
    errors = [str(answer) for answer in answers if answer is not None]
    if not there:
        raise ComfyError("\n".join(errors))
    problems = []
    for (node_class, name), row in added.items():
        known = await there[0].input_names(node_class)
        if name not in known:
            listed = ", ".join(known) or "none, as it does not know this class of nodes"
            problems.append(f"The row {row!r} sets {node_class}.{name}. The node's inputs on the server: {listed}.")
    if problems:
        raise ManifestError("\n".join(problems))


@contextmanager
def _progress(total: int, results: ResultsFolder) -> Iterator[Callable[[ManifestRow, bool], None]]:
    failed = sum(status != "ok" for status in results.done.values())
    interval = SHOW_SECONDS[not sys.stderr.isatty()]
    with (
        logging_redirect_tqdm([logging.getLogger()]),
        tqdm(total=total, initial=len(results.done), unit="edit", dynamic_ncols=True, mininterval=interval) as bar,
    ):

        def on_done(_: ManifestRow, made: bool) -> None:
            nonlocal failed
            failed += not made
            if failed:
                bar.set_postfix_str(f"{failed} failed", refresh=False)
            bar.update()

        yield on_done
