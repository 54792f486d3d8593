"""The columns of a list of pairs, under the names that trainers and published data sets use for them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .listing import cleaned

NAMES = {
    "source": ("source", "control_path", "control_path_0", "source_path", "source_image", "source_img", "src_img",
               "original_image", "input_image", "control_image", "control"),
    "edited": ("edited", "image_path", "edited_path", "edited_image", "edited_img", "target", "target_path",
               "target_image", "target_img", "output_image", "image"),
    "instructions": ("instruction", "instructions", "caption", "captions", "edited_prompt_list", "edit_instruction",
                     "edit_prompt", "prompt", "edit"),
    "task": ("task", "edit_type", "task_type"),
    "weight": ("weight",),
    "id": ("id",),
}  # fmt: skip
"""First the pack's own name, then those of musubi-tuner, MagicBrush, OmniEdit and others; the first one counts."""
SECOND_SOURCE = "control_path_1"


@dataclass(frozen=True)
class PairColumns:
    """Which column holds what; None: none does."""

    source: str
    edited: str
    instructions: str | None
    task: str | None
    weight: str | None
    id: str | None

    @classmethod
    def of(cls, there: Iterable[str], what: str, instruction: str = "") -> "PairColumns":
        """The columns of a table that has those names.

        Raises:
            ValueError: it lacks pictures, or instructions where there is no common one.
        """
        there = list(there)
        found = {part: next((name for name in names if name in there), None) for part, names in NAMES.items()}
        needed = ("source", "edited") if instruction.strip() else ("source", "edited", "instructions")
        missing = [f"{NAMES[part][0]} (or {', '.join(NAMES[part][1:4])})" for part in needed if found[part] is None]
        if missing:
            raise ValueError(
                f"{what} has no column {' and none '.join(missing)}. Its columns: {', '.join(there) or 'none'}. "
                "Rename them."
            )
        if SECOND_SOURCE in there:
            raise ValueError(
                f"{what} has a column {SECOND_SOURCE}: a second picture to start from. ICEdit edits one picture; leave "
                "that column out."
            )
        return cls(**found)  # pyright: ignore[reportArgumentType]

    def used(self) -> list[str]:
        return [name for name in (getattr(self, field.name) for field in fields(self)) if name is not None]


@dataclass(frozen=True)
class RowValues:
    """What a row says besides its pictures."""

    instructions: tuple[str, ...]
    task: str | None
    weight: float
    id: str | None


def values_of(row: Mapping[str, Any], columns: PairColumns, instruction: str = "") -> RowValues:
    """The values of a row, its columns' names being the keys.

    Raises:
        ValueError: a value is of another kind than its column holds.
    """
    texts = row.get(columns.instructions) if columns.instructions else None
    texts = [texts] if isinstance(texts, str) else [] if texts is None else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{columns.instructions} is {texts!r}, expected a text or a list of texts")
    return RowValues(
        instructions=cleaned(texts) or cleaned([instruction]),
        task=_text(row.get(columns.task) if columns.task else None),
        weight=_weight(row.get(columns.weight) if columns.weight else None),
        id=_text(row.get(columns.id) if columns.id else None),
    )


def _text(value: Any) -> str | None:
    return None if value is None or not str(value).strip() else str(value).strip()


def _weight(value: Any) -> float:
    if value is None or value == "":
        return 1.0
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0.0):
        raise ValueError(f"weight is {value!r}, expected a number above 0")
    return weight
