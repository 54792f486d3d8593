"""The workflows that a manifest's rows are run with, and each row's values in them."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import embedded
from ..client import Workflow
from ..errors import ManifestError
from ..job import SHIPPED
from ..places import Place, description_places, instruction_places
from ..workflow import (
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
from .manifest import Manifest, ManifestRow, Problems
from .region_and_result import seed_places, with_one_result, with_region

log = logging.getLogger(__name__)

NAME = "picture.png"
"""In place of the uploaded file's name, to find out whether a row fits its workflow."""


@dataclass(frozen=True)
class ManifestSettings:
    """What the command line says for all rows; a row's own values replace them.

    Args:
        workflow: the rows' that name none.
        result: the id of the node that saves the result; None for the first one that saves a picture.
    """

    workflow: str
    mini: bool
    seed: int | None = None
    description: str | None = None
    sets: tuple[str, ...] = ()
    result: str | None = None


@dataclass(frozen=True)
class ManifestPlan:
    """Everything that is needed to make the edits, so far as it does not depend on a server.

    Args:
        workflows: by the name in the column `workflow`; the one without a name is that of the settings.
    """

    settings: ManifestSettings
    workflows: Mapping[str, Workflow]

    def workflow_of(self, row: ManifestRow) -> Workflow:
        return self.workflows[row.workflow or ""]

    def filled(self, row: ManifestRow, picture: str, region: str | None) -> Workflow:
        """What a server gets for a row, its files being there under these names.

        Raises:
            WorkflowError: the row does not fit its workflow.
        """
        sets = (*self.settings.sets, *row.sets)
        workflow = without_assigned(self.workflow_of(row), row.sets)
        workflow = with_picture(workflow, picture)
        if row.instruction is not None:
            workflow = with_instruction(workflow, row.instruction)
        if row.seed is not None:
            workflow = with_seed(workflow, row.seed)
        if row.description is not None:
            workflow = with_description(workflow, row.description)
        if region is not None:
            workflow = with_region(workflow, region)
        for assignment in sets:
            workflow = with_value(workflow, assignment)
        return workflow

    @staticmethod
    def seed_of(workflow: Workflow) -> int | None:
        """The seed of the first node that has one."""
        return next((workflow[key]["inputs"][name] for key, name in seed_places(workflow)), None)

    @cached_property
    def digest(self) -> str:
        """Of the workflows' contents, not of their files' names."""
        return _sha256([self.workflows[name] for name in sorted(self.workflows)])

    def to_json(self) -> str:
        return json.dumps({"settings": asdict(self.settings), "workflows": self.workflows})

    @classmethod
    def from_json(cls, text: str) -> "ManifestPlan":
        found = json.loads(text)
        settings = {**found["settings"], "sets": tuple(found["settings"]["sets"])}
        return cls(ManifestSettings(**settings), found["workflows"])


def make_plan(manifest: Manifest, settings: ManifestSettings, problems: Problems) -> ManifestPlan:
    """Load the workflows and try every row on its own.

    Raises:
        ManifestError: the workflow of the command line is not usable. What is wrong with rows goes to `problems`.
    """
    try:
        workflows = {"": _prepared(load_workflow(Path(settings.workflow)), settings)}
    except WorkflowError as error:
        raise ManifestError(str(error)) from error
    for name in dict.fromkeys(row.workflow for row in manifest.rows if row.workflow):
        try:
            workflows[name] = _prepared(load_workflow(_workflow_file(manifest, name)), settings)
        except WorkflowError as error:
            problems.add(f"The workflow {name!r}", f"is not usable: {error}")
    plan = ManifestPlan(settings, workflows)
    for row, like_it in _forms(manifest.rows):
        if (row.workflow or "") in workflows and (problem := _problem(plan, row)):
            more = f" (and {like_it} more like it)" if like_it else ""
            problems.add(f"The row {row.id!r}{more}", problem)
    return plan


def mention_descriptions(plan: ManifestPlan, rows: Sequence[ManifestRow]) -> None:
    """Say which rows leave the description of their picture to the workflow, which describes its own picture."""
    if plan.settings.description is not None:
        return
    left = Counter[str]()
    for row, like_it in _forms(rows):
        if (row.workflow or "") in plan.workflows and row.description is None:
            workflow = without_assigned(plan.workflow_of(row), row.sets)
            texts = {workflow[key]["inputs"][name] for key, name in description_places(workflow)}
            left.update(dict.fromkeys(texts, 1 + like_it))
    for text, count in left.items():
        log.warning(
            "The workflow of %d of %d rows says that their picture shows %r. Where it does not, fill the column "
            "description, or add --description for all rows.", count, len(rows), text,
        )  # fmt: skip


def _problem(plan: ManifestPlan, row: ManifestRow) -> str | None:
    """Why a row cannot be run, as far as that can be said without a server."""
    try:
        filled = plan.filled(row, NAME, row.region)
        if plan.settings.mini:
            embedded.check_models(filled)
    except WorkflowError as error:
        return f"does not fit its workflow: {error}"
    if row.instruction is None and instruction_places(without_assigned(plan.workflow_of(row), row.sets)):
        return "has no instruction, and --instruction gives none"
    return None


def added_places(plan: ManifestPlan, rows: Sequence[ManifestRow]) -> dict[tuple[str, str], str]:
    """Inputs that something sets and the workflow's file does not have: only a server knows whether there are such.

    Returns:
        the class of the node and the input -> the id of the first row with it.
    """
    found: dict[tuple[str, str], str] = {}
    for row, _ in _forms(rows):
        workflow = plan.workflow_of(row)
        for key, name in _set_places(workflow, (*plan.settings.sets, *row.sets)):
            if name not in workflow[key]["inputs"]:
                found.setdefault((workflow[key]["class_type"], name), row.id)
    return found


def _forms(rows: Sequence[ManifestRow]) -> list[tuple[ManifestRow, int]]:
    """The first row of each kind of which all fit their workflow or none does, and how many more are of its kind."""
    first: dict[Any, ManifestRow] = {}
    count = Counter[Any]()
    for row in rows:
        lines = None if row.instruction is None else len(row.instruction.splitlines())
        given = (row.seed is None, row.description is None, row.region is None)
        form = (row.workflow, lines, given, tuple(assignment.partition("=")[0] for assignment in row.sets))
        first.setdefault(form, row)
        count[form] += 1
    return [(row, count[form] - 1) for form, row in first.items()]


def _set_places(workflow: Workflow, assignments: Sequence[str]) -> list[Place]:
    return assigned_places(workflow, assignments) if assignments else []


def _prepared(workflow: Workflow, settings: ManifestSettings) -> Workflow:
    """With the command line's values in it."""
    if settings.mini:
        workflow = embedded.with_mini_models(workflow)
    if settings.seed is not None:
        workflow = with_seed(workflow, settings.seed)
    workflow = without_assigned(workflow, settings.sets)
    if settings.description is not None:
        workflow = with_description(workflow, settings.description)
    return with_one_result(workflow, settings.result)


def _workflow_file(manifest: Manifest, name: str) -> Path:
    """In the manifest's folder, or one of the shipped ones."""
    own = manifest.place(name)
    return own if own.exists() or not (SHIPPED / Path(name).name).is_file() else SHIPPED / Path(name).name


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
