"""The trained file: what it is called on the server, and where it is if the server runs on this machine."""

import asyncio
import itertools
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from ..answers import items, json_object, mapping
from ..batch import local_name
from ..client import ComfyClient, Workflow
from ..errors import ComfyError
from ..outputs import RunResult, SavedPicture
from .options import TRAINING

LORA_NAME = 0
"""The training node's output that names the file."""
SHARED = "icedit_trained"
"""The training node's entry among a prompt's outputs that says where below the output folder the file is, too."""
HEADER_BYTES = 1 << 24


def lora_name(result: RunResult, workflow: Workflow) -> str:
    """The name of the trained file among the server's loras.

    Raises:
        ComfyError: no node of the workflow shows it.
    """
    for key, node in workflow.items():
        link = node["inputs"].get("source")
        if node["class_type"] == "PreviewAny" and isinstance(link, list) and link[1] == LORA_NAME:
            text = (result.outputs.get(key) or {}).get("text")
            if workflow.get(link[0], {}).get("class_type") == TRAINING and isinstance(text, list) and text:
                return str(text[0])
    raise ComfyError("The training finished, but no Preview as Text shows its lora_name. Add one to the workflow.")


async def places(client: ComfyClient, name: str) -> list[str]:
    """Where the server may have the file, by its own paths."""
    return [f"{folder}/{name}" for folder in await client.model_folders("loras")]


async def file_here(client: ComfyClient, name: str, candidates: list[str]) -> Path | None:
    """The trained file if it is on this machine: a file whose header is the one that the server shows."""
    shown = await client.model_metadata("loras", name)
    if shown is None:
        return None
    paths = (Path(candidate) for candidate in candidates if candidate.endswith(".safetensors"))
    return next((path for path in paths if _metadata(path) == shown), None)


async def fetched(client: ComfyClient, result: RunResult, workflow: Workflow, folder: Path) -> Path | None:
    """The trained file from a server elsewhere, in a folder; None where the server does not share it.

    Raises:
        ComfyError: no connection, or the server has lost the file.
        OSError: it cannot be saved.
    """
    nodes = (key for key, node in workflow.items() if node["class_type"] == TRAINING)
    shared = (one for key in nodes for one in items(mapping(result.outputs.get(key)).get(SHARED)))
    path = next((PurePosixPath(found) for found in shared if isinstance(found, str)), None)
    if path is None:
        return None
    content = await client.download(SavedPicture("", path.name, str(path.parent), "output"))
    target = free_path(folder, path.name)
    await asyncio.to_thread(target.write_bytes, content)
    return target


def copied(file: Path, folder: Path) -> Path:
    """A copy of the file in a folder, where no other file is replaced; the file itself if it is there already."""
    if file.parent.resolve() == folder.resolve():
        return file
    target = free_path(folder, file.name)
    shutil.copyfile(file, target)
    return target


def free_path(folder: Path, name: str) -> Path:
    """A path in the folder that nothing has, named like a file on the server."""
    wanted = local_name(name)
    numbered = (f"{wanted.stem}_{number:03}{wanted.suffix}" for number in itertools.count(2))
    names = itertools.chain([wanted.name], numbered)
    return next(path for path in map(folder.joinpath, names) if not path.exists())


def _metadata(path: Path) -> Any:
    """The texts in the header of a safetensors file; None if there is no such file."""
    try:
        # Nothing but files: a pipe would never end.
        if not path.is_file():
            return None
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json_object(file.read(length)) if length <= HEADER_BYTES else None
    except (OSError, ValueError):
        return None
    return mapping(header).get("__metadata__")
