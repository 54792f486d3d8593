"""Filling an API-format workflow with a picture, an instruction, a seed and other values."""

import copy
import json
from pathlib import Path
from typing import Any

from .client import Workflow

PICTURE_INPUTS = {"DiptychCreate": "image", "LoadImage": "image"}
INSTRUCTION_INPUTS = {"InContextEditInstruction": "editText"}
SEED_INPUTS = ("seed", "noise_seed")


class WorkflowError(ValueError):
    """The workflow file or a change to it is not usable; the message says why and what to do."""


def load_workflow(path: Path) -> Workflow:
    """Read an API-format workflow.

    Raises:
        WorkflowError: unreadable, no JSON, or in the page's format.
    """
    try:
        workflow = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkflowError(f"The workflow {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise WorkflowError(f"The workflow {path} is no JSON: {error}") from error
    if isinstance(workflow, dict) and "nodes" in workflow and "links" in workflow:
        raise WorkflowError(
            f"{path} is in the format of the ComfyUI page. Servers take the API format: open it in ComfyUI and choose "
            "File, Export (API); the shipped ones are in workflows/api."
        )
    usable = isinstance(workflow, dict) and all(
        isinstance(node, dict) and "class_type" in node and isinstance(node.get("inputs"), dict)
        for node in workflow.values()
    )
    if not usable or not workflow:
        raise WorkflowError(f"{path} is no workflow in API format: every node needs class_type and inputs.")
    return workflow


def with_picture(workflow: Workflow, name: str) -> Workflow:
    """The workflow with its picture widget set to an uploaded file."""
    changed = copy.deepcopy(workflow)
    for node_inputs, widget in _settable(changed, PICTURE_INPUTS, "a picture to load (DiptychCreate or LoadImage)"):
        node_inputs[widget] = name
    return changed


def with_instruction(workflow: Workflow, instruction: str) -> Workflow:
    """The workflow with its edit instruction set; of one with several turns, each turn gets a line of it.

    Raises:
        WorkflowError: there is no node for it, or not a line for each of several.
    """
    changed = copy.deepcopy(workflow)
    targets = _settable(changed, INSTRUCTION_INPUTS, "an instruction (InContextEditInstruction)")
    lines = [instruction] if len(targets) == 1 else instruction.splitlines()
    if len(lines) != len(targets):
        raise WorkflowError(
            f"The workflow makes {len(targets)} edits in a row, but the instruction has {len(lines)} lines: "
            f"{instruction!r}. Write one line for each edit."
        )
    for (node_inputs, name), line in zip(targets, lines, strict=True):
        node_inputs[name] = line
    return changed


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
    """
    target, equals, text = assignment.partition("=")
    node_name, dot, input_name = target.strip().rpartition(".")
    if not equals or not dot or not node_name:
        raise WorkflowError(f"{assignment!r} is not of the form NODE.INPUT=VALUE, as in KSampler.steps=20")
    changed = copy.deepcopy(workflow)
    nodes = [node for key, node in changed.items() if node_name in (key, node["class_type"])]
    if not nodes:
        raise WorkflowError(f"The workflow has no node {node_name!r}; it has {_node_list(workflow)}.")
    for node in nodes:
        node["inputs"][input_name] = _value(text)
    return changed


def with_values(workflow: Workflow, values: dict[str, Any]) -> Workflow:
    """The workflow with inputs set that it has: "CLASS.INPUT" -> value; other classes and linked inputs are left."""
    changed = copy.deepcopy(workflow)
    for node in changed.values():
        for name, old in node["inputs"].items():
            if not isinstance(old, list):
                node["inputs"][name] = values.get(f"{node['class_type']}.{name}", old)
    return changed


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _settable(workflow: Workflow, inputs: dict[str, str], what: str) -> list[tuple[dict[str, Any], str]]:
    """The inputs of each node that has one of those named and takes it from its widget, with the input's name."""
    targets = [
        (node["inputs"], inputs[node["class_type"]])
        for node in workflow.values()
        # A linked input comes from another node; only a widget can be set.
        if node["class_type"] in inputs and not isinstance(node["inputs"].get(inputs[node["class_type"]]), list)
    ]
    if not targets:
        raise WorkflowError(f"The workflow has no node for {what}; it has {_node_list(workflow)}.")
    return targets


def _node_list(workflow: Workflow) -> str:
    return ", ".join(f"{key} ({node['class_type']})" for key, node in workflow.items())
