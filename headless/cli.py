"""The command line: edit pictures on a ComfyUI server, or on the embedded one."""

import argparse
import asyncio
import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from . import embedded
from .address import BEARER_VARIABLE, HEADERS_VARIABLE, ServerAddress
from .batch import EditResult, OutputError, make_output_folder, run_job
from .client import ComfyClient, NodeProgress
from .errors import ComfyError, ManifestError
from .job import DEFAULT_WORKFLOW, Edit, Job, check_added, job_of
from .many.command import add_manifest_options, check_manifest_options, edit_manifest
from .workflow import WorkflowError

log = logging.getLogger(__name__)

FAILED = 1
USAGE = 2
INTERRUPTED = 130
TEACH = "teach"
ARGUMENTS_VARIABLE = "ICEDIT_ARGUMENTS"
"""A JSON list of arguments, used where none are given: task runners print the commands that they run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit status. `teach` as the first argument trains instead of editing."""
    arguments = _arguments() if arguments is None else arguments
    if arguments[:1] == [TEACH]:
        from .teach.command import main as teach

        return teach(arguments[1:])
    make_everything_printable()
    options = parsed(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if options.manifest is not None:
            return 0 if edit_manifest(options, print) else FAILED
        job = job_of(options)
        _check_edits(job)
        make_output_folder(options.output)
        address = None if options.server is None else ServerAddress.of(options.server[0], os.environ)
        with _client(address, options) as client:
            outcomes = asyncio.run(_edit(client, job, options.output))
    except (WorkflowError, ManifestError, OutputError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return USAGE
    except ComfyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED
    return FAILED if any(outcome.error for outcome in outcomes) else 0


def make_everything_printable() -> None:
    """Show characters that the console's encoding lacks, as on Windows, as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _arguments() -> list[str]:
    # Not for the processes that are started here.
    given = os.environ.pop(ARGUMENTS_VARIABLE, None)
    return sys.argv[1:] if given is None or sys.argv[1:] else json.loads(given)


class AddressHidingParser(argparse.ArgumentParser):
    """Hides addresses in its messages: a mistyped --server may hold a password."""

    def error(self, message: str) -> NoReturn:
        super().error(re.sub(r"https?://\S+", "http://***", message, flags=re.IGNORECASE))


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; ends the process where they do not go together."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.comfyui is None and (options.comfyui_python or options.comfyui_option):
        parser.error("--comfyui-python and --comfyui-option are for the ComfyUI that --comfyui names")
    check_manifest_options(options, parser.error)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = AddressHidingParser(
        prog="python -m headless",
        description="Edit pictures with ICEdit on your ComfyUI: on a running one with --server, or on one that is "
        "started for it with --comfyui. Without either a private ComfyUI with a small model is set up and used, which "
        "edits drawings of a few coloured shapes.",
        epilog="Without --picture, this pack's workflows edit an example; a workflow of your own, on your ComfyUI, "
        "edits the pictures that it names. Without --instruction, the workflow's own stays; on the small model, this "
        "pack's workflows get one that it knows. What --set sets counts as given.",
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
    _add_comfyui(parser)
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
    add_manifest_options(parser)
    return parser


def _add_comfyui(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--server",
        nargs="+",
        metavar="URL",
        help="your ComfyUI with the real models, as http://127.0.0.1:8188; with a login, as "
        "https://USER:PASSWORD@comfy.example.org. A token comes from the environment variable "
        f"{BEARER_VARIABLE} (Authorization: Bearer), other headers from {HEADERS_VARIABLE} (one NAME: VALUE a line)",
    )
    which.add_argument(
        "--comfyui",
        type=Path,
        metavar="FOLDER",
        help="the folder of your ComfyUI, which is started with its models and node packs, and stopped at the end",
    )
    parser.add_argument(
        "--comfyui-python",
        type=Path,
        metavar="FILE",
        help="the Python that runs it (default: that in venv, .venv or python_embeded, or the one that runs this)",
    )
    parser.add_argument(
        "--comfyui-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option that you start it with, as --comfyui-option=--lowvram; once for each",
    )


def _check_edits(job: Job) -> None:
    """Before a server is started or asked, refuse a job of which no edit can be made."""
    if None not in job.problems:
        raise WorkflowError("\n".join(dict.fromkeys(problem for problem in job.problems if problem)))


@contextmanager
def _client(address: ServerAddress | None, options: argparse.Namespace) -> Iterator[ComfyClient]:
    if address is not None:
        yield ComfyClient(address)
        return
    with embedded.started_server(options.comfyui, options.comfyui_python, options.comfyui_option) as url:
        # The temp folder is private: an installed ComfyUI's input folder stays as it is.
        yield ComfyClient(url, upload_type="temp")
    if options.comfyui is None:
        print(f"\n{embedded.NOTICE}", file=sys.stderr)


async def _edit(client: ComfyClient, job: Job, folder: Path) -> list[EditResult]:
    async with client:
        await check_added(client, job)
        with tqdm(unit="step", dynamic_ncols=True, leave=False) as bar:

            def show(edit: Edit, progress: NodeProgress) -> None:
                name = f"{edit.picture.name}: " if edit.picture else ""
                bar.set_description(f"{name}{progress.node}", refresh=False)
                bar.total = progress.total
                bar.n = progress.value
                bar.refresh()

            return await run_job(client, job, folder, show, _report)


def _report(outcome: EditResult) -> None:
    """Print at once, so that the earlier results are known when a later edit is stopped."""
    with tqdm.external_write_mode():
        for file in outcome.files:
            _print_result(file)
        if outcome.error:
            print(f"Error: {outcome.edit}: {outcome.error}", file=sys.stderr)


def _print_result(file: Path) -> None:
    try:
        print(file, flush=True)
    except OSError as error:
        # A closed pipe or a full disk behind it; neither may cost the edits that are left.
        log.warning("%s is saved, but cannot be named on standard output: %s", file, error.strerror or error)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
