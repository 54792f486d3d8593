"""Where a workflow takes a region, and which of its pictures is the result."""

import copy

from ..client import Workflow
from ..places import Place
from ..workflow import SEED_INPUTS, WorkflowError

REGION_NODE = "icedit_region"
SAVERS = ("SaveImage",)
"""Nodes that only save; those of them that do not save the result are left out."""


def with_region(workflow: Workflow, name: str) -> Workflow:
    """The workflow with a mask's file as its region: white is what may change.

    Raises:
        WorkflowError: there is no node for it, or more than one.
    """
    changed = copy.deepcopy(workflow)
    masks = [key for key, node in workflow.items() if node["class_type"] == "LoadImageMask"]
    if len(masks) == 1:
        changed[masks[0]]["inputs"]["image"] = name
        return changed
    diptychs = [key for key, node in workflow.items() if node["class_type"] == "DiptychCreate"]
    free = [key for key in diptychs if "region" not in workflow[key]["inputs"]]
    if masks or len(free) != 1:
        raise WorkflowError(
            "A region goes to the workflow's one LoadImageMask, or, where there is none, to its one DiptychCreate "
            f"without a region; this workflow has {len(masks)} and {len(free)} of them."
        )
    changed[REGION_NODE] = {"class_type": "LoadImageMask", "inputs": {"image": name, "channel": "red"}}
    changed[free[0]]["inputs"]["region"] = [REGION_NODE, 0]
    return changed


def with_one_result(workflow: Workflow, node: str | None) -> Workflow:
    """The workflow without the Save Image nodes of all but the result, as that of a before/after picture.

    Args:
        node: the id of the one that saves the result; None for the first.

    Raises:
        WorkflowError: it has no such node.
    """
    savers = [key for key, found in workflow.items() if found["class_type"] in SAVERS]
    if node is not None and node not in workflow:
        listed = ", ".join(savers) or "none"
        raise WorkflowError(f"The workflow has no node {node!r} whose result could be kept; its Save Image: {listed}.")
    kept = node or next(iter(savers), None)
    return {key: found for key, found in workflow.items() if key not in savers or key == kept}


def seed_places(workflow: Workflow) -> list[Place]:
    """The inputs that hold a seed."""
    return [(key, name) for key, node in workflow.items() for name in SEED_INPUTS if _is_seed(node["inputs"].get(name))]


def _is_seed(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
