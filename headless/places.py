"""Where a workflow holds what its user gives it: its picture, its instruction, the description of its picture."""

from typing import Any, TypeGuard

from .client import Workflow

Place = tuple[str, str]
"""An input that holds a value of its own, not a link: the node's id and the input's name."""

EARLY_FILTERS = ("EarlyFilterSampler", "EarlyFilterSamplerAdvanced")


def picture_places(workflow: Workflow) -> list[Place]:
    """The file widgets of the nodes that load a picture."""
    # A Load Image node whose mask alone is used loads no picture to edit, nor does a diptych that gets one by link.
    loaders = [key for key in _of_class(workflow, "LoadImage") if (key, 0) in _linked(workflow)]
    diptychs = [key for key in _of_class(workflow, "DiptychCreate") if "image_input" not in workflow[key]["inputs"]]
    return [(key, "image") for key in (*loaders, *diptychs) if _is_value(workflow, key, "image")]


def instruction_places(workflow: Workflow) -> list[Place]:
    """The text of each edit instruction; where there is none, the text that an early filter shares with the prompt."""
    edits = [_written(workflow, key, "editText") for key in _of_class(workflow, "InContextEditInstruction")]
    edits += [_written(workflow, key, "instructions") for key in _of_class(workflow, "EditVariations")]
    shared = [_shared_instruction(workflow, key) for kind in EARLY_FILTERS for key in _of_class(workflow, kind)]
    return _found(edits) or _found(shared)


def description_places(workflow: Workflow) -> list[Place]:
    """The texts that say what the picture shows, for models without ICEdit's LoRA."""
    described = [
        _written(workflow, key, "description")
        for key in _of_class(workflow, "InContextEditInstruction")
        if workflow[key]["inputs"].get("template") == "text-to-image"
    ]
    inverted = [_source_prompt(workflow, key) for key in _of_class(workflow, "InContextInversion")]
    return _found([*described, *inverted])


def _shared_instruction(workflow: Workflow, early_filter: str) -> Place | None:
    link = workflow[early_filter]["inputs"].get("instruction")
    # A text that only the filter gets is for its judge: changing it would not change the edit.
    users = _linked(workflow).get((link[0], link[1]), []) if _is_link(link) else []
    if all(workflow[key]["class_type"] in EARLY_FILTERS for key in users):
        return None
    return _written(workflow, early_filter, "instruction")


def _source_prompt(workflow: Workflow, inversion: str) -> Place | None:
    link = workflow[inversion]["inputs"].get("source_prompt")
    if not _is_link(link) or workflow.get(link[0], {}).get("class_type") != "CLIPTextEncode":
        return None
    return _written(workflow, link[0], "text")


def _written(workflow: Workflow, key: str, name: str) -> Place | None:
    """Where the text of an input stands: in the input, or in the node of nothing but a text that it is linked to."""
    value = workflow[key]["inputs"].get(name)
    if not _is_link(value):
        return (key, name) if _is_value(workflow, key, name) else None
    texts = list(workflow.get(value[0], {}).get("inputs", {}).items())
    return (value[0], texts[0][0]) if len(texts) == 1 and isinstance(texts[0][1], str) else None


def _of_class(workflow: Workflow, kind: str) -> list[str]:
    return [key for key, node in workflow.items() if node["class_type"] == kind]


def _linked(workflow: Workflow) -> dict[tuple[str, int], list[str]]:
    """Output, as node and index -> the nodes that use it."""
    users: dict[tuple[str, int], list[str]] = {}
    for key, node in workflow.items():
        for value in node["inputs"].values():
            if _is_link(value):
                users.setdefault((value[0], value[1]), []).append(key)
    return users


def _is_value(workflow: Workflow, key: str, name: str) -> bool:
    inputs = workflow[key]["inputs"]
    return name in inputs and not _is_link(inputs[name])


def _is_link(value: Any) -> TypeGuard[tuple[str, int]]:
    """As the server sees it; other lists are values."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def _found(places: list[Place | None]) -> list[Place]:
    return list(dict.fromkeys(place for place in places if place is not None))
