"""The command line: edit pictures on a ComfyUI server, or on the embedded one."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from . import embedded
from .batch import Edit, Outcome, run_edits
from .client import ComfyError, Progress, Workflow
from .environment import SetupError
from .server import ServerError
from .workflow import WorkflowError, load_workflow, with_seed, with_value

HERE = Path(__file__).resolve().parent
DEFAULT_WORKFLOW = HERE.parent / "workflows" / "api" / "icedit.json"
PHOTOGRAPH = HERE / "astronaut.jpg"
PHOTOGRAPH_INSTRUCTION = "make her hair dark green"
"""The defaults on a real server; the embedded one has a drawing that its small models know."""

FAILED = 1
USAGE = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    pictures = options.picture or [PHOTOGRAPH if options.server else embedded.PICTURE]
    instructions = options.instruction or [PHOTOGRAPH_INSTRUCTION if options.server else embedded.INSTRUCTION]
    edits = [Edit(picture, text) for picture in pictures for text in instructions]
    try:
        workflow = _workflow(options)
        with _server(options.server) as url:
            outcomes = asyncio.run(_edit(url, workflow, edits, options.output))
    except (WorkflowError, SetupError, ServerError, ComfyError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return USAGE if isinstance(error, WorkflowError) else FAILED
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED
    _report(outcomes)
    return FAILED if any(outcome.error for outcome in outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m headless",
        description="Edit pictures with ICEdit on a ComfyUI server. Without --server a private ComfyUI with a small "
        "model is set up and used, which edits drawings of a few coloured shapes.",
    )
    parser.add_argument("--picture", nargs="+", type=Path, help="pictures to edit (default: an example)")
    parser.add_argument("--instruction", nargs="+", help="what to change; every picture gets every one")
    parser.add_argument("--server", metavar="URL", help="your ComfyUI with the real models, as http://127.0.0.1:8188")
    parser.add_argument(
        "--workflow", type=Path, default=DEFAULT_WORKFLOW, help="an API-format workflow (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, help="seed of every sampler (default: the workflow's)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="set any input, NODE being an id or a class: --set UNETLoader.unet_name=flux1-fill-dev-fp8.safetensors",
    )
    parser.add_argument("--output", type=Path, default=Path("output"), help="folder for results (default: %(default)s)")
    return parser


def _workflow(options: argparse.Namespace) -> Workflow:
    workflow = load_workflow(options.workflow)
    if options.server is None:
        workflow = embedded.with_mini_models(workflow)
    if options.seed is not None:
        workflow = with_seed(workflow, options.seed)
    for assignment in options.set:
        workflow = with_value(workflow, assignment)
    return workflow


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    with embedded.embedded_server() as server:
        yield server.url
    print(f"\n{embedded.NOTICE}", file=sys.stderr)


async def _edit(url: str, workflow: Workflow, edits: list[Edit], folder: Path) -> list[Outcome]:
    with tqdm(unit="step", dynamic_ncols=True, leave=False) as bar:

        def show(edit: Edit, progress: Progress) -> None:
            bar.set_description(f"{edit.picture.name}: {progress.node}", refresh=False)
            bar.total = progress.total
            bar.n = progress.value
            bar.refresh()

        return await run_edits(url, workflow, edits, folder, show)


def _report(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        for file in outcome.files:
            print(file)
        if outcome.error:
            print(f"Error: {outcome.edit.picture}, {outcome.edit.instruction!r}: {outcome.error}", file=sys.stderr)
