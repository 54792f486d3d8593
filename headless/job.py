"""What a command line asks for: the workflow with the user's values in it, and the edits to make with it."""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

from . import embedded
from .batch import Edit
from .client import ComfyClient, Workflow
from .places import Place, description_places, instruction_places, picture_places
from .workflow import WorkflowError, assigned_places, load_workflow, with_description, with_seed, with_value

log = logging.getLogger(__name__)

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parent / "workflows" / "api"
DEFAULT_WORKFLOW = SHIPPED / "icedit.json"
PHOTOGRAPH = HERE / "astronaut.jpg"
"""The picture that the shipped workflows' instructions are about; the embedded server has a drawing of its own."""


@dataclass(frozen=True)
class Job:
    """A workflow, its edits, the inputs that --set set, and those of them that the workflow's file does not have."""

    workflow: Workflow
    edits: list[Edit]
    kept: frozenset[Place]
    added: frozenset[Place]


def job_of(options: argparse.Namespace) -> Job:
    """The job of parsed options.

    Raises:
        WorkflowError: the workflow is not usable, or an option does not fit it.
    """
    workflow = load_workflow(options.workflow)
    kept = frozenset(place for assignment in options.set for place in assigned_places(workflow, assignment))
    added = frozenset(place for place in kept if place[1] not in workflow[place[0]]["inputs"])
    workflow = _filled(workflow, options, kept)
    pictures = options.picture or [_default_picture(options, workflow, kept)]
    instructions = options.instruction or [_default_instruction(options, workflow, kept)]
    edits = [Edit(picture, instruction) for picture in pictures for instruction in instructions]
    return Job(workflow, edits, kept, added)


async def check_added(client: ComfyClient, job: Job) -> None:
    """Make sure that the nodes have the inputs that --set added to them: the server drops what it does not know.

    Raises:
        WorkflowError: a node has no such input.
        ComfyError: no connection.
    """
    for key, name in sorted(job.added):
        node_class = job.workflow[key]["class_type"]
        known = await client.input_names(node_class)
        if name not in known:
            inputs = ", ".join(known) or "none, as it does not know this class of nodes"
            raise WorkflowError(f"Node {key} ({node_class}) has no input {name!r}. Its inputs on the server: {inputs}.")


def _filled(workflow: Workflow, options: argparse.Namespace, kept: frozenset[Place]) -> Workflow:
    if options.server is None:
        workflow = embedded.with_mini_models(workflow)
    if options.seed is not None:
        workflow = with_seed(workflow, options.seed)
    for assignment in options.set:
        workflow = with_value(workflow, assignment)
    if options.description is not None:
        return with_description(workflow, options.description, kept)
    if options.picture:
        _mention_description(workflow, kept)
    return workflow


def _mention_description(workflow: Workflow, kept: frozenset[Place]) -> None:
    for key, name in description_places(workflow):
        if (key, name) not in kept:
            text = workflow[key]["inputs"].get(name, "")
            log.warning("The workflow says that the picture shows %r. If yours does not, add --description.", text)


def _default_picture(options: argparse.Namespace, workflow: Workflow, kept: frozenset[Place]) -> Path | None:
    """None where the workflow's own pictures stay."""
    places = picture_places(workflow)
    # The embedded server has no pictures that a workflow could name.
    own = options.server is not None and not _is_shipped(options.workflow)
    if own or kept.issuperset(places):
        return None
    return PHOTOGRAPH if options.server else embedded.PICTURE


def _default_instruction(options: argparse.Namespace, workflow: Workflow, kept: frozenset[Place]) -> str | None:
    """None where the workflow's own instructions stay: everywhere but on the mini models, which know other words."""
    if options.server is not None or not _is_shipped(options.workflow):
        return None
    return None if kept.issuperset(instruction_places(workflow)) else embedded.INSTRUCTION


def _is_shipped(workflow: Path) -> bool:
    return workflow.resolve().parent == SHIPPED
