"""Inputs that the judges which ask a vision-language model share."""

from typing import get_args

from comfy_api.latest import io

from ..early_filter.judges.styles import MAX_VOTES, Style
from ..host import files
from ..host.judges.wording import wording_path


def checks_input() -> io.Input:
    return io.Boolean.Input(
        "checks",
        default=True,
        tooltip="First ask up to five yes/no questions about your instruction and count each edit's yes; compare "
        "edits in pairs only where the count is the same. Off: compare in pairs only.",
    )


def swap_order_input() -> io.Input:
    return io.Boolean.Input(
        "swap_order",
        default=True,
        tooltip="Ask every comparison a second time with the edits swapped, and call it a tie when the answers "
        "disagree. Models, small ones above all, prefer whichever edit comes first or last.",
    )


def style_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "style",
            options=list(get_args(Style)),
            default="general",
            optional=True,
            tooltip="What the model is asked. general: which edit is better, for any model. EditScore: two questions "
            "with marks from 0 to 25 for each edit by itself, for EditScore models; checks and swap_order do not "
            "count. PVC-Judge: which of two edits keeps better what was to stay, for PVC-Judge models; checks says "
            "whether the edit was made at all, so leave it on.",
        ),
        io.Int.Input(
            "votes",
            default=1,
            min=1,
            max=MAX_VOTES,
            optional=True,
            tooltip="How often EditScore and PVC-Judge are asked the same, each time with another seed. More votes "
            "judge better and cost as many times more. The style general does not use it.",
        ),
        io.String.Input(
            "wording",
            default="",
            optional=True,
            placeholder="editscore.txt",
            tooltip="A text file in ComfyUI's input folder with the judge's original questions, for EditScore and "
            "PVC-Judge. Empty: our own words in the same form.",
        ),
    ]


def wording_fingerprint(wording: str) -> str:
    """So that a changed file is read again; an unconnected input has the same fingerprint every time."""
    return files.fingerprint(wording_path(wording)) if wording else ""
