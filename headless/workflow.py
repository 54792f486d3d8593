"""Filling in an API-format workflow: a picture, an instruction, a seed and other values."""

import copy
import json
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from .client import Workflow
from .places import Place, description_places, instruction_places, picture_places

AGAIN = "icedit_run_again"
SEED_INPUTS = ("seed", "noise_seed")


class WorkflowError(ValueError):
    """The workflow file or a change to it is not usable; the message says why and what to do."""


def load_workflow(path: Path) -> Workflow:
    """Read an API-format workflow, also from the body of a request to `/prompt`.

    Of such a body the prompt alone is taken: its `extra_data` holds the page's picture of a workflow that is changed
    here, and the keys of whoever recorded it.

    Raises:
        WorkflowError: unreadable, no JSON, or in the page's format.
    """
    workflow = _prompt_of(_read(path))
    if isinstance(workflow, dict) and "nodes" in workflow and "links" in workflow:
        raise WorkflowError(
            f"{path} is in the format of the ComfyUI page. Servers take the API format: open it in ComfyUI and choose "
            "File, Export (API); the shipped ones are in workflows/api."
        )
    usable = isinstance(workflow, dict) and all(
        isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)
        for node in workflow.values()
    )
    if not usable or not workflow:
        raise WorkflowError(f"{path} is no workflow in API format: every node needs class_type and inputs.")
    return workflow


def _read(path: Path) -> Any:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WorkflowError(f"The workflow {path} cannot be read: {error.strerror or error}") from error
    try:
        # Given bytes, it finds out by itself whether they are UTF-8, UTF-16 or UTF-32, with or without a mark.
        return json.loads(content)
    except UnicodeDecodeError as error:
        raise WorkflowError(
            f"The workflow {path} is in another encoding than UTF-8 or UTF-16. Save it as UTF-8."
        ) from error
    except RecursionError as error:
        raise WorkflowError(f"The workflow {path} is nested too deeply to be one.") from error
    except ValueError as error:
        raise WorkflowError(f"The workflow {path} is no JSON: {error}") from error


def _prompt_of(found: Any) -> Any:
    """The workflow in a request to `/prompt`; everything else as it is."""
    inner = found.get("prompt") if isinstance(found, dict) else None
    # A node may have any id, "prompt" too.
    return inner if isinstance(inner, dict) and "class_type" not in inner else found


def with_picture(workflow: Workflow, name: str) -> Workflow:
    """The workflow with its picture widget set to an uploaded file.

    Raises:
        WorkflowError: there is no picture widget to set, or more than one.
    """
    places = _some(workflow, picture_places(workflow), "a picture to load (DiptychCreate or LoadImage)")
    if len(places) > 1:
        listed = ", ".join(f"{key} ({workflow[key]['class_type']})" for key, _ in places)
        key, widget = places[0]
        raise WorkflowError(
            f"The workflow takes {len(places)} pictures, in the nodes {listed}, and a run of it is given one. Set them "
            f"by id with --set, as --set {key}.{widget}=cat.png, each to a file that is in the server's input folder; "
            "the one that you leave out gets the picture."
        )
    return _with(workflow, places, [name])


def with_instruction(workflow: Workflow, instruction: str) -> Workflow:
    """The workflow with its edit instruction set; of one with several turns, each turn gets a line of it.

    Raises:
        WorkflowError: there is no node for it, or not a line for each of several.
    """
    what = "an instruction (InContextEditInstruction, or a text that goes to both an early filter and the prompt)"
    places = _some(workflow, instruction_places(workflow), what)
    lines = [instruction] if len(places) == 1 else instruction.splitlines()
    if len(lines) != len(places):
        raise WorkflowError(
            f"The workflow makes {len(places)} edits in a row, but the instruction has {len(lines)} lines: "
            f"{instruction!r}. Write one line for each edit."
        )
    return _with(workflow, places, lines)


def with_description(workflow: Workflow, description: str) -> Workflow:
    """The workflow with the description of its picture set, wherever it stands.

    Raises:
        WorkflowError: it does not use one.
    """
    what = (
        "a description of the picture (InContextEditInstruction with the template text-to-image, or the source prompt "
        "of InContextInversion)"
    )
    places = _some(workflow, description_places(workflow), what)
    return _with(workflow, places, [description] * len(places))


def with_seed(workflow: Workflow, seed: int) -> Workflow:
    """The workflow with the seed of every node that has one set."""
    changed = copy.deepcopy(workflow)
    found = False
    for node in changed.values():
        for name in SEED_INPUTS:
            if isinstance(node["inputs"].get(name), int):
                node["inputs"][name] = seed
                found = True
    if not found:
        raise WorkflowError("The workflow has no node with a seed to set.")
    return changed


def with_value(workflow: Workflow, assignment: str) -> Workflow:
    """The workflow with one input set from text: "NODE.INPUT=VALUE", NODE being an id or a class name.

    A class name sets the input on every node of that class. The value is read as JSON where it is JSON, else as text.

    Raises:
        WorkflowError: another form, or no such node. Which inputs a node can have, only the server knows.
    """
    places, value = _assigned(workflow, assignment)
    return _with(workflow, places, [value] * len(places))


def assigned_places(workflow: Workflow, assignments: Sequence[str]) -> list[Place]:
    """The inputs that `with_value` sets."""
    return [place for assignment in assignments for place in _assigned(workflow, assignment)[0]]


def without_assigned(workflow: Workflow, assignments: Sequence[str]) -> Workflow:
    """The workflow with the assignments made, but without the pictures and texts among what they set.

    The other pictures and texts can be filled in then; make the assignments once more afterwards.
    """
    for assignment in assignments:
        workflow = with_value(workflow, assignment)
    fillable = {*picture_places(workflow), *instruction_places(workflow), *description_places(workflow)}
    rest = copy.deepcopy(workflow)
    for key, name in fillable.intersection(assigned_places(workflow, assignments)):
        del rest[key]["inputs"][name]
    return rest


def with_new_results(workflow: Workflow, nodes: Collection[str]) -> Workflow:
    """The workflow with a new input at these nodes that they ignore, so that the server runs them again."""
    changed = copy.deepcopy(workflow)
    for key in nodes:
        changed[key]["inputs"][AGAIN] = uuid.uuid4().hex
    return changed


def with_values(workflow: Workflow, values: dict[str, Any]) -> Workflow:
    """The workflow with inputs set that it has: "CLASS.INPUT" -> value; other classes and linked inputs are left."""
    changed = copy.deepcopy(workflow)
    for node in changed.values():
        for name, old in node["inputs"].items():
            if not isinstance(old, list):
                node["inputs"][name] = values.get(f"{node['class_type']}.{name}", old)
    return changed


def _assigned(workflow: Workflow, assignment: str) -> tuple[list[Place], Any]:
    target, equals, text = assignment.partition("=")
    node_name, _, input_name = target.strip().rpartition(".")
    if not equals or not node_name or not input_name:
        raise WorkflowError(f"{assignment!r} is not of the form NODE.INPUT=VALUE, as in KSampler.steps=20")
    names = (node_name, TAKEN_OVER.get(node_name))
    keys = next((keys for name in names if (keys := _named(workflow, name))), [])
    if not keys:
        raise WorkflowError(f"The workflow has no node {node_name!r}; it has {_node_list(workflow)}.")
    return [(key, input_name) for key in keys], _value(text)


TAKEN_OVER = {"CropRightHalf": "DecodeRightHalf"}
"""Nodes whose part in the shipped workflows another one has taken: commands that name them keep working."""


def _named(workflow: Workflow, name: str | None) -> list[str]:
    """The nodes of an id or a class."""
    return [key for key, node in workflow.items() if name in (key, node["class_type"])]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _with(workflow: Workflow, places: list[Place], values: list[Any]) -> Workflow:
    changed = copy.deepcopy(workflow)
    for (key, name), value in zip(places, values, strict=True):
        changed[key]["inputs"][name] = value
    return changed


def _some(workflow: Workflow, places: list[Place], what: str) -> list[Place]:
    if not places:
        raise WorkflowError(
            f"The workflow has no node for {what}, or --set sets it already; it has {_node_list(workflow)}."
        )
    return places


def _node_list(workflow: Workflow) -> str:
    return ", ".join(f"{key} ({node['class_type']})" for key, node in workflow.items())
