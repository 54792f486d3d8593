"""Many edits on one server, one after the other; one that fails does not lose the others."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .client import ComfyClient, ComfyError, Progress, Workflow
from .workflow import with_instruction, with_picture


@dataclass(frozen=True)
class Edit:
    """One picture and one instruction."""

    picture: Path
    instruction: str


@dataclass(frozen=True)
class Outcome:
    """What became of an edit: the files that were saved, or the reason why there are none."""

    edit: Edit
    files: tuple[Path, ...] = ()
    error: str | None = None


async def run_edits(
    url: str,
    workflow: Workflow,
    edits: Sequence[Edit],
    folder: Path,
    on_progress: Callable[[Edit, Progress], None] | None = None,
) -> list[Outcome]:
    """Run every edit through the workflow and save every output picture into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    async with ComfyClient(url) as client:
        return [await _run_edit(client, workflow, edit, folder, on_progress) for edit in edits]


async def _run_edit(
    client: ComfyClient,
    workflow: Workflow,
    edit: Edit,
    folder: Path,
    on_progress: Callable[[Edit, Progress], None] | None,
) -> Outcome:
    try:
        name = await client.upload_picture(edit.picture)
        filled = with_instruction(with_picture(workflow, name), edit.instruction)
        result = await client.run(filled, lambda progress: on_progress(edit, progress) if on_progress else None)
        # Temporary pictures are previews of the page; what a Save node wrote is the result.
        saved = [picture for picture in result.pictures if picture.kind == "output"]
        if not saved:
            raise ComfyError("The workflow finished, but saved no picture. Add a Save Image node to it.")
        files = []
        for picture in saved:
            content = await client.download(picture)
            files.append(_save(content, folder, edit, Path(picture.filename)))
    except ComfyError as error:
        return Outcome(edit, error=str(error))
    return Outcome(edit, tuple(files))


def _save(content: bytes, folder: Path, edit: Edit, saved_as: Path) -> Path:
    # The server numbers its files per folder (name_00001_.png); here the picture's own name tells them apart.
    label = re.sub(r"_\d+_?$", "", saved_as.stem)
    stem = f"{edit.picture.stem}_{label}"
    number = 1
    while True:
        target = folder / f"{stem}_{number:03d}{saved_as.suffix}"
        try:
            with open(target, "xb") as file:
                file.write(content)
        except FileExistsError:
            number += 1
        else:
            return target
