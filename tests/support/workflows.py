"""Where the pack and its shipped workflows are."""

import copy
from pathlib import Path

from icedit.headless.client import Workflow
from icedit.headless.places import picture_places

PACK = Path(__file__).resolve().parents[2]
WORKFLOWS = PACK / "workflows"
PAGE_WORKFLOWS = sorted(WORKFLOWS.glob("*.json"))
API_WORKFLOWS = sorted((WORKFLOWS / "api").glob("*.json"))
EDIT_WORKFLOWS = [path for path in API_WORKFLOWS if path.name != "icedit_teach.json"]
"""Those that edit a picture; the other one trains on pairs."""
NOT_TINY = ("kontext_early_filter.json", "icedit_say_where.json")
TINY_STACK_WORKFLOWS = [path for path in EDIT_WORKFLOWS if path.name not in NOT_TINY]
"""Those that edit on the tiny stack, which has no FLUX.1 Kontext and no SAM 3."""

NODE_FOLDERS = sorted(
    path.parent.name
    for path in PACK.glob("*/__init__.py")
    if path.parent.name not in ("headless", "private_host", "mini", "tests", "workflows")
)
"""What ComfyUI loads: everything but the client, the mini models, the tests and the workflows."""


def with_every_picture(workflow: Workflow, name: str) -> Workflow:
    """The workflow with every picture that it loads set to the same file."""
    filled = copy.deepcopy(workflow)
    for node, widget in picture_places(workflow):
        filled[node]["inputs"][widget] = name
    return filled
