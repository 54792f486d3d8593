"""Many edits on one server, one after the other; one that fails does not lose the others."""

import re
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from .client import ComfyClient, ComfyError, Picture, Progress, Workflow
from .places import Place
from .workflow import WorkflowError, with_instruction, with_picture


class OutputError(OSError):
    """Nothing can be written into the output folder; the message says why and what to do."""


@dataclass(frozen=True)
class Edit:
    """One picture and one instruction. With None for one of them the workflow's own stays."""

    picture: Path | None
    instruction: str | None

    def __str__(self) -> str:
        parts = [str(self.picture)] if self.picture else []
        parts += [repr(self.instruction)] if self.instruction is not None else []
        return ", ".join(parts) or "the workflow as it is"


@dataclass(frozen=True)
class Outcome:
    """What became of an edit: the files that were saved, and the reason why some or all are missing."""

    edit: Edit
    files: tuple[Path, ...] = ()
    error: str | None = None


async def run_edits(
    url: str,
    workflow: Workflow,
    edits: Sequence[Edit],
    folder: Path,
    on_progress: Callable[[Edit, Progress], None] | None = None,
    kept: Collection[Place] = (),
) -> list[Outcome]:
    """Run every edit through the workflow and save every output picture into `folder`.

    Args:
        kept: inputs of the workflow that hold the user's own values, which no edit's picture or instruction replaces.

    Raises:
        OutputError: nothing can be saved into `folder`.
        ComfyError: the server's address is none.
    """
    make_output_folder(folder)
    problems = [problem_of(workflow, edit, kept) for edit in edits]
    async with ComfyClient(url) as client:
        return [
            Outcome(edit, error=problem)
            if problem is not None
            else await _run_edit(client, workflow, edit, folder, on_progress, kept)
            for edit, problem in zip(edits, problems, strict=True)
        ]


def make_output_folder(folder: Path) -> None:
    """Make the folder, and be sure before any work that files can be written into it.

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


def problem_of(workflow: Workflow, edit: Edit, kept: Collection[Place] = ()) -> str | None:
    """Why the workflow cannot make this edit, as far as that can be said without the server."""
    try:
        _filled(workflow, edit, "picture.png", kept)
    except WorkflowError as error:
        return str(error)
    return None


async def _run_edit(
    client: ComfyClient,
    workflow: Workflow,
    edit: Edit,
    folder: Path,
    on_progress: Callable[[Edit, Progress], None] | None,
    kept: Collection[Place],
) -> Outcome:
    files: list[Path] = []
    try:
        for picture in await _pictures(client, workflow, edit, on_progress, kept):
            files.append(_save(await client.download(picture), folder, edit, Path(picture.filename)))
    except ComfyError as error:
        return Outcome(edit, tuple(files), str(error))
    except OSError as error:
        reason = f"A result could not be saved in {folder}: {error.strerror or error}."
        return Outcome(edit, tuple(files), reason)
    return Outcome(edit, tuple(files))


async def _pictures(
    client: ComfyClient,
    workflow: Workflow,
    edit: Edit,
    on_progress: Callable[[Edit, Progress], None] | None,
    kept: Collection[Place],
) -> list[Picture]:
    name = await client.upload_picture(edit.picture) if edit.picture else None
    filled = _filled(workflow, edit, name, kept)
    result = await client.run(filled, lambda progress: on_progress(edit, progress) if on_progress else None)
    # Temporary pictures are previews of the page; what a Save node wrote is the result.
    saved = [picture for picture in result.pictures if picture.kind == "output"]
    if not saved:
        raise ComfyError("The workflow finished, but saved no picture. Add a Save Image node to it.")
    return saved


def _filled(workflow: Workflow, edit: Edit, name: str | None, kept: Collection[Place]) -> Workflow:
    if edit.picture is not None and name is not None:
        workflow = with_picture(workflow, name, kept)
    if edit.instruction is not None:
        workflow = with_instruction(workflow, edit.instruction, kept)
    return workflow


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
        except OSError:
            # A full disk leaves the beginning of a picture.
            target.unlink(missing_ok=True)
            raise
        else:
            return target
