"""`python -m headless teach`: train on pairs of pictures on a ComfyUI server, or on the embedded one."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath

from tqdm import tqdm

from .. import embedded
from ..address import ServerAddress
from ..batch import OutputError, make_output_folder
from ..cli import FAILED, INTERRUPTED, USAGE, AddressHidingParser, make_everything_printable
from ..client import ComfyClient, NodeProgress, Workflow
from ..errors import ComfyError
from ..outputs import RunResult
from ..workflow import WorkflowError, with_value, with_values
from .options import PAIRS, TRAINING, given, parsed, settings_of
from .pairs import check_pairs, pairs_here, uploaded
from .trained import copied, fetched, file_here, free_path, lora_name, places

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Teach FLUX.1-Fill an edit of your own from pairs of pictures, on your ComfyUI. Without --server a private ComfyUI "
    "with small models is set up and used, which know drawings of a few coloured shapes. The pairs go into the "
    "server's input folder. The server keeps the file in models/loras, and --output gets a copy."
)

NOTICE = (
    "This trained a small model that knows drawings only; FLUX.1-Fill cannot use the file. Start your own ComfyUI with "
    "the models (see README.md) and add --server http://127.0.0.1:8188."
)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; its exit status."""
    make_everything_printable()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        options, workflow = parsed(AddressHidingParser(prog="nox -s teach --", description=DESCRIPTION), arguments)
        workflow = _filled(options, workflow)
        address = None if options.server is None else ServerAddress.of(options.server, os.environ)
        make_output_folder(options.output)
        with _server(address) as server:
            asyncio.run(_teach(server, options, workflow))
    except (WorkflowError, OutputError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return USAGE
    except ComfyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(
            "Stopped. On your own server the same command goes on from the last saved state.",
            file=sys.stderr,
        )
        return INTERRUPTED
    return 0


def _filled(options: argparse.Namespace, workflow: Workflow) -> Workflow:
    """The workflow with everything but the pairs."""
    settings = settings_of(workflow)
    if options.server is None:
        workflow = embedded.with_mini_models(workflow)
    workflow = with_values(workflow, given(options, settings))
    name = next(node["inputs"]["name"] for node in workflow.values() if node["class_type"] == TRAINING)
    workflow = with_values(workflow, {"SaveImage.filename_prefix": f"{PurePath(str(name)).name}_loss"})
    for assignment in options.set:
        workflow = with_value(workflow, assignment)
    return workflow


@contextmanager
def _server(address: ServerAddress | None) -> Iterator[str | ServerAddress]:
    if address is not None:
        yield address
        return
    with embedded.started_server(None, None, ()) as url:
        yield url
    print(NOTICE, file=sys.stderr)


async def _teach(server: str | ServerAddress, options: argparse.Namespace, workflow: Workflow) -> None:
    (pairs,) = (node["inputs"] for node in workflow.values() if node["class_type"] == PAIRS)
    instruction = pairs.get("instruction", "")
    common = instruction if isinstance(instruction, str) else ""
    listing = await asyncio.to_thread(pairs_here, options.pairs, common)
    left_out = check_pairs(listing, pairs.get("on_problems") == "skip")
    if left_out:
        log.warning("%s", left_out)
    async with ComfyClient(server) as client:
        with tqdm(total=len(listing.rows), unit="pair", desc="Uploading", dynamic_ncols=True, leave=False) as bar:
            pairs["sources"], pairs["edited"] = await uploaded(client, listing.rows, bar.update), ""
        with tqdm(unit="step", dynamic_ncols=True, leave=False) as bar:

            def show(progress: NodeProgress) -> None:
                bar.set_description(progress.node, refresh=False)
                bar.total, bar.n = progress.total, progress.value
                bar.refresh()

            result = await client.run(workflow, show)
        await _fetch(client, result, workflow, options.output)


async def _fetch(client: ComfyClient, result: RunResult, workflow: Workflow, folder: Path) -> None:
    """Print the trained file, and what was saved of its training."""
    for text in _reports(result):
        log.info("%s", client.clean(text))
    name = lora_name(result, workflow)
    candidates = await places(client, name)
    file = await file_here(client, name, candidates)
    try:
        if file is None:
            saved = await _fetched_if_possible(client, result, workflow, folder)
        else:
            saved = await asyncio.to_thread(copied, file, folder)
        if saved is not None:
            print(saved, flush=True)
        for picture in result.pictures:
            if picture.kind == "output":
                target = free_path(folder, picture.filename)
                target.write_bytes(await client.download(picture))
                log.info("%s", target)
    except OSError as error:
        raise OutputError(f"A result could not be saved in {folder}: {error.strerror or error}.") from error
    if saved is None:
        log.warning("The file is on the server only, among its loras. Its name there:")
        print(client.clean(name), flush=True)


async def _fetched_if_possible(client: ComfyClient, result: RunResult, workflow: Workflow, folder: Path) -> Path | None:
    try:
        return await fetched(client, result, workflow, folder)
    except ComfyError as error:
        # The training is done and its file safe: where it is must still be said.
        log.warning("The trained file could not be fetched: %s", error)
        return None


def _reports(result: RunResult) -> list[str]:
    """What the workflow's nodes for texts show."""
    texts = (output.get("text") for output in result.outputs.values() if isinstance(output, dict))
    return [str(text) for shown in texts if isinstance(shown, list) for text in shown]
