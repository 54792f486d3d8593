"""What a command line asks for: the workflow with the user's values in it, and the edits to make with it."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from . import embedded
from .client import ComfyClient, Workflow
from .places import Place, description_places, instruction_places, picture_places
from .workflow import (
    WorkflowError,
    assigned_places,
    load_workflow,
    with_description,
    with_instruction,
    with_picture,
    with_seed,
    with_value,
    without_assigned,
)

log = logging.getLogger(__name__)

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parent / "workflows" / "api"
DEFAULT_WORKFLOW = SHIPPED / "icedit.json"
PHOTOGRAPH = HERE / "astronaut.jpg"
"""The picture that the shipped workflows' instructions are about; the embedded server has a drawing of its own."""


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
class Job:
    """The edits to make with one workflow.

    Args:
        sets: assignments for `with_value` that are made last of all, so that nothing replaces what they set.
        added: the inputs among those that the workflow's file does not have.
    """

    workflow: Workflow
    edits: Sequence[Edit]
    sets: Sequence[str] = ()
    added: frozenset[Place] = frozenset()

    def filled(self, edit: Edit, picture: str | None) -> Workflow:
        """What the server gets for an edit, its picture being there under the name `picture`.

        Raises:
            WorkflowError: the workflow cannot make this edit.
        """
        workflow = self.workflow if picture is None else with_picture(self.workflow, picture)
        if edit.instruction is not None:
            workflow = with_instruction(workflow, edit.instruction)
        for assignment in self.sets:
            workflow = with_value(workflow, assignment)
        return workflow

    @cached_property
    def problems(self) -> list[str | None]:
        """For each edit why the workflow cannot make it, as far as that can be said without the server."""
        return [self._problem_of(edit) for edit in self.edits]

    def _problem_of(self, edit: Edit) -> str | None:
        try:
            self.filled(edit, None if edit.picture is None else "picture.png")
        except WorkflowError as error:
            return str(error)
        return None


def job_of(options: argparse.Namespace) -> Job:
    """The job of parsed options.

    Raises:
        WorkflowError: the workflow is not usable, an option does not fit it, or the mini models are not enough for it.
    """
    workflow = load_workflow(options.workflow)
    assigned = assigned_places(workflow, options.set)
    added = frozenset((key, name) for key, name in assigned if name not in workflow[key]["inputs"])
    workflow = _filled(workflow, options)
    pictures = options.picture or [_default_picture(options, workflow)]
    instructions = options.instruction or [_default_instruction(options, workflow)]
    edits = [Edit(picture, instruction) for picture in pictures for instruction in instructions]
    if _on_mini_models(options):
        embedded.check_models(workflow)
    return Job(workflow, edits, options.set, added)


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


def _filled(workflow: Workflow, options: argparse.Namespace) -> Workflow:
    """With all but the edits' own pictures and instructions, and without what --set sets of these."""
    if _on_mini_models(options):
        workflow = embedded.with_mini_models(workflow)
    if options.seed is not None:
        workflow = with_seed(workflow, options.seed)
    workflow = without_assigned(workflow, options.set)
    if options.description is not None:
        return with_description(workflow, options.description)
    if _on_mini_models(options) and _is_shipped(options.workflow) and description_places(workflow):
        workflow = with_description(workflow, embedded.DESCRIPTION)
    if options.picture:
        _mention_description(workflow)
    return workflow


def _mention_description(workflow: Workflow) -> None:
    for key, name in description_places(workflow):
        text = workflow[key]["inputs"][name]
        log.warning("The workflow says that the picture shows %r. If yours does not, add --description.", text)


def _default_picture(options: argparse.Namespace, workflow: Workflow) -> Path | None:
    """None where the workflow's own pictures stay."""
    if not picture_places(workflow):
        return None
    if _on_mini_models(options):
        # Their server has no pictures that a workflow could name.
        return embedded.PICTURE
    return PHOTOGRAPH if _is_shipped(options.workflow) else None


def _default_instruction(options: argparse.Namespace, workflow: Workflow) -> str | None:
    """None where the workflow's own instructions stay: everywhere but on the mini models, which know other words."""
    if _on_mini_models(options) and _is_shipped(options.workflow) and instruction_places(workflow):
        return embedded.default_instruction(workflow)
    return None


def _on_mini_models(options: argparse.Namespace) -> bool:
    return options.server is None and options.comfyui is None


def _is_shipped(workflow: Path) -> bool:
    return workflow.resolve().parent == SHIPPED
