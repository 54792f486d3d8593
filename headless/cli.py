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
from .batch import Edit, Outcome, OutputError, make_output_folder, problem_of, run_edits
from .client import ComfyClient, ComfyError, Progress
from .environment import SetupError
from .job import DEFAULT_WORKFLOW, Job, check_added, job_of
from .server import ServerError
from .workflow import WorkflowError

FAILED = 1
USAGE = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        job = job_of(options)
        _check_edits(job)
        make_output_folder(options.output)
        with _server(options.server) as url:
            outcomes = asyncio.run(_edit(url, job, options.output))
    except (WorkflowError, OutputError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return USAGE
    except (SetupError, ServerError, ComfyError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return FAILED
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
        epilog="Without --picture, this pack's workflows edit an example; a workflow of your own, with --server, edits "
        "the pictures that it names. Without --instruction, the workflow's own stays; without --server, this pack's "
        "workflows get one that the small model knows. What --set sets counts as given.",
    )
    parser.add_argument("--picture", nargs="+", type=Path, help="pictures to edit (default: see below)")
    parser.add_argument(
        "--instruction", nargs="+", help="what to change; every picture gets every one (default: see below)"
    )
    parser.add_argument(
        "--description",
        metavar="TEXT",
        help="what the pictures show, for workflows without ICEdit's LoRA (default: the workflow's)",
    )
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
        help="set any input, NODE being an id or a class: --set UNETLoader.unet_name=flux1-fill-dev-fp8.safetensors; "
        "what is set here is never replaced by --seed, --picture, --instruction or --description",
    )
    parser.add_argument("--output", type=Path, default=Path("output"), help="folder for results (default: %(default)s)")
    return parser


def _check_edits(job: Job) -> None:
    """Before a server is started or asked: there is something that it can do. What remains is told edit by edit."""
    problems = [problem_of(job.workflow, edit, job.kept) for edit in job.edits]
    if None not in problems:
        raise WorkflowError("\n".join(dict.fromkeys(problem for problem in problems if problem)))


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    with embedded.embedded_server() as server:
        yield server.url
    print(f"\n{embedded.NOTICE}", file=sys.stderr)


async def _edit(url: str, job: Job, folder: Path) -> list[Outcome]:
    async with ComfyClient(url) as client:
        await check_added(client, job)
    with tqdm(unit="step", dynamic_ncols=True, leave=False) as bar:

        def show(edit: Edit, progress: Progress) -> None:
            name = f"{edit.picture.name}: " if edit.picture else ""
            bar.set_description(f"{name}{progress.node}", refresh=False)
            bar.total = progress.total
            bar.n = progress.value
            bar.refresh()

        return await run_edits(url, job.workflow, job.edits, folder, show, job.kept)


def _report(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        for file in outcome.files:
            print(file)
        if outcome.error:
            print(f"Error: {outcome.edit}: {outcome.error}", file=sys.stderr)
