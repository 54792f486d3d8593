"""The options of the command line: those of the client, and every setting of the workflow's training nodes."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..client import Workflow
from ..workflow import WorkflowError, load_workflow

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "api" / "icedit_teach.json"
PAIRS, TRAINING = "LoadEditPairs", "TrainMoELoRA"
KINDS = {
    bool: ("true or false", "true|false"),
    int: ("whole number", "NUMBER"),
    float: ("number", "NUMBER"),
}
"""What values of a kind are called in messages, and in the list of options."""
BY_PAIRS = ("sources", "edited")
"""Inputs that --pairs sets."""


@dataclass(frozen=True)
class Setting:
    """A value of a node that an option sets: `default` is the workflow's."""

    node: str
    name: str
    default: Any

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")

    def value(self, text: str) -> Any:
        """The text of an option as a value of the setting's kind.

        Raises:
            ValueError: it is none.
        """
        if isinstance(self.default, bool):
            if text.lower() not in ("true", "false"):
                raise ValueError(text)
            return text.lower() == "true"
        return text if isinstance(self.default, str) else type(self.default)(text)


def settings_of(workflow: Workflow) -> dict[str, Setting]:
    """The settings of the nodes that load pairs and train, by name.

    Raises:
        WorkflowError: it does not have one of each.
    """
    found: dict[str, Setting] = {}
    for kind in (PAIRS, TRAINING):
        keys = [key for key, node in workflow.items() if node["class_type"] == kind]
        if len(keys) != 1:
            raise WorkflowError(f"The workflow has {len(keys)} nodes {kind}, expected one; {WORKFLOW} has.")
        for name, value in workflow[keys[0]]["inputs"].items():
            if not isinstance(value, list) and name not in BY_PAIRS:
                found[name] = Setting(kind, name, value)
    return found


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[argparse.Namespace, Workflow]:
    """The options and the workflow, which says what options there are; ends the process where they are wrong.

    Raises:
        WorkflowError: the workflow is not usable.
    """
    _add_options(parser)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--workflow", type=Path, default=WORKFLOW)
    workflow = load_workflow(first.parse_known_args(arguments)[0].workflow)
    group = parser.add_argument_group(
        "settings", "What the nodes Load Edit Pairs and Train MoE-LoRA have; their help in ComfyUI says what each does."
    )
    for setting in settings_of(workflow).values():
        _add_setting(group, setting)
    options = parser.parse_args(arguments)
    if len(options.pairs) > 2:
        parser.error("--pairs takes two folders, or one file that lists the pairs")
    return options, workflow


def given(options: argparse.Namespace, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """What the user has set: "CLASS.INPUT" -> value."""
    values = {setting: getattr(options, name) for name, setting in settings.items()}
    return {f"{setting.node}.{setting.name}": value for setting, value in values.items() if value is not None}


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pairs",
        nargs="+",
        type=Path,
        required=True,
        metavar="PATH",
        help="the folder with the pictures before the edit and the one with the edited pictures, each with a .txt file "
        "of its name that holds the instruction; or one file that lists the pairs (.jsonl, .json, .csv, .parquet)",
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        help="your ComfyUI with the real models, as http://127.0.0.1:8188 (default: a private one with small models)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output"),
        help="folder for the file and its loss curve (default: %(default)s)",
    )
    parser.add_argument(
        "--workflow", type=Path, default=WORKFLOW, help="a workflow that trains, in API format (default: %(default)s)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="set any other input: --set UNETLoader.weight_dtype=fp8_e4m3fn",
    )


def _add_setting(group: Any, setting: Setting) -> None:
    def kind(text: str) -> Any:
        return setting.value(text)

    # argparse names it when a value is none of its kind.
    kind.__name__, shown_as = KINDS.get(type(setting.default), ("text", "TEXT"))
    default = "empty" if setting.default == "" else str(setting.default)
    names = dict.fromkeys((setting.option, "--" + setting.name))
    group.add_argument(*names, dest=setting.name, type=kind, metavar=shown_as, help=f"default: {default}")
