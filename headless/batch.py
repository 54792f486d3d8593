"""Many edits on one server, one after the other; one that fails does not lose the others."""

import itertools
import logging
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

from .address import ServerAddress
from .answers import items, mapping
from .client import ComfyClient, NodeProgress, Workflow
from .errors import ComfyError, GoneError
from .job import Edit, Job
from .outputs import RunResult, SavedPicture
from .workflow import with_new_results

log = logging.getLogger(__name__)

UNFIT_FOR_NAMES = re.compile(r'[<>:"/\\|?*]|^[. ]+')
NAME_LENGTH = 100


class OutputError(OSError):
    """Nothing can be written into the output folder; the message says why and what to do."""


@dataclass(frozen=True)
class EditResult:
    """The files that an edit saved, and the reason why some or all are missing."""

    edit: Edit
    files: tuple[Path, ...] = ()
    error: str | None = None


async def run_edits(
    url: str | ServerAddress,
    workflow: Workflow,
    edits: Sequence[Edit],
    folder: Path,
    on_progress: Callable[[Edit, NodeProgress], None] | None = None,
    on_outcome: Callable[[EditResult], None] | None = None,
) -> list[EditResult]:
    """Run every edit through the workflow and save every output picture into `folder`.

    Args:
        on_outcome: called after each edit, so that the earlier results are known when a later edit is cancelled.

    Raises:
        OutputError: nothing can be saved into `folder`.
        ComfyError: the server's address is not one.
    """
    make_output_folder(folder)
    async with ComfyClient(url) as client:
        return await run_job(client, Job(workflow, edits), folder, on_progress, on_outcome)


async def run_job(
    client: ComfyClient,
    job: Job,
    folder: Path,
    on_progress: Callable[[Edit, NodeProgress], None] | None = None,
    on_outcome: Callable[[EditResult], None] | None = None,
) -> list[EditResult]:
    """Run the edits of a job on an open connection, into a folder that `make_output_folder` has made."""
    outcomes: list[EditResult] = []
    for edit, problem in zip(job.edits, job.problems, strict=True):
        if problem is None:
            outcome = await _run_edit(client, job, edit, folder, on_progress)
        else:
            outcome = EditResult(edit, error=problem)
        outcomes.append(outcome)
        if on_outcome is not None:
            on_outcome(outcome)
    return outcomes


def make_output_folder(folder: Path) -> None:
    """Make the folder, and check before any work that files can be written into it.

    Raises:
        OutputError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"Results cannot be saved in {folder}: {error.strerror or error}. Name a folder that you may write into."
        ) from error


async def _run_edit(
    client: ComfyClient,
    job: Job,
    edit: Edit,
    folder: Path,
    on_progress: Callable[[Edit, NodeProgress], None] | None,
) -> EditResult:
    def report(progress: NodeProgress) -> None:
        if on_progress is not None:
            on_progress(edit, progress)

    files: list[Path] = []
    try:
        name = await client.upload_picture(edit.picture) if edit.picture else None
        filled = job.filled(edit, name)
        lost = await _save_all(client, (await finished_run(client, filled, report)).pictures, folder, edit, files)
        if lost:
            # Servers remember what a node has done, not whether the files of it are still there.
            log.info("The server no longer has the pictures of node %s and makes them again.", ", ".join(lost))
            run = await finished_run(client, with_new_results(filled, lost), report)
            again = [picture for picture in run.pictures if picture.node in lost]
            if await _save_all(client, again, folder, edit, files):
                raise ComfyError("The server does not hand out the picture that it just saved (HTTP status 404).")
    except ComfyError as error:
        return EditResult(edit, tuple(files), str(error))
    except OSError as error:
        reason = f"A result could not be saved in {folder}: {error.strerror or error}."
        return EditResult(edit, tuple(files), reason)
    return EditResult(edit, tuple(files))


async def finished_run(
    client: ComfyClient, workflow: Workflow, report: Callable[[NodeProgress], None] | None = None
) -> RunResult:
    """A run with the pictures alone that it saved: temporary ones are previews of the page.

    Raises:
        ComfyError: it failed, or saved none.
    """
    result = await client.run(workflow, report)
    saved = tuple(picture for picture in result.pictures if picture.kind == "output")
    if not saved and (seeds := _to_pick(result)):
        raise ComfyError(
            "The workflow waits for you to pick a candidate, as choose is 'me'. Set the sampler's picked to one of the "
            f"seeds {', '.join(seeds)}, or choose to 'judge'."
        )
    if not saved:
        raise ComfyError("The workflow finished, but saved no picture. Add a Save Image node to it.")
    return replace(result, pictures=saved)


def _to_pick(run: RunResult) -> list[str]:
    """The seeds among which an early filter's user is to choose, if one still waits for that."""
    for output in map(mapping, run.outputs.values()):
        if any(mapping(pick).get("finished") is False for pick in items(output.get("icedit_pick"))):
            candidates = map(mapping, items(output.get("icedit_candidates")))
            return list(dict.fromkeys(str(candidate.get("seed")) for candidate in candidates))
    return []


async def _save_all(
    client: ComfyClient, pictures: Sequence[SavedPicture], folder: Path, edit: Edit, files: list[Path]
) -> list[str]:
    """Save the pictures and append their files to `files`.

    Returns:
        the nodes of which the server no longer has a picture; nothing of theirs is saved.
    """
    lost: list[str] = []
    for node, group in itertools.groupby(pictures, key=lambda picture: picture.node):
        own, contents = list(group), list[bytes]()
        problem: ComfyError | None = None
        for picture in own:
            try:
                contents.append(await client.download(picture))
            except ComfyError as error:
                problem = error
                break
        if isinstance(problem, GoneError):
            lost.append(node)
            continue
        for picture, content in zip(own, contents, strict=False):
            files.append(_save(content, folder, edit, local_name(picture.filename)))
        if problem is not None:
            raise problem
    return lost


def local_name(filename: str) -> Path:
    """The server's name for a file, made safe: valid on any system and without a folder."""
    name = PureWindowsPath(filename).name
    name = "".join(letter if letter.isprintable() else "_" for letter in UNFIT_FOR_NAMES.sub("_", name))
    label, dot, suffix = name.rpartition(".")
    if not dot or not re.fullmatch(r"[A-Za-z0-9]{1,10}", suffix):
        label, suffix = name, ""
    return Path(f"{label[:NAME_LENGTH].rstrip('. ') or '_'}{f'.{suffix}' if suffix else ''}")


def _save(content: bytes, folder: Path, edit: Edit, saved_as: Path) -> Path:
    # The server numbers its files per folder (name_00001_.png); here the picture's own name tells them apart.
    label = re.sub(r"_\d+_?$", "", saved_as.stem)
    stem = f"{edit.picture.stem}_{label}" if edit.picture else label
    number = 1
    while True:
        target = folder / f"{stem}_{number:03d}{saved_as.suffix}"
        try:
            with open(target, "xb") as file:
                file.write(content)
        except FileExistsError:
            number += 1
        except BaseException:
            # A full disk or Ctrl-C leaves the beginning of a picture.
            target.unlink(missing_ok=True)
            raise
        else:
            return target
