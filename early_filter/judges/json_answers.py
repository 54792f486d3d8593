"""How the answers of trained judges are read: JSON first, a pattern where it does not parse. What cannot be read for
sure is no answer: it never becomes a mark."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ..judge import Choice
from .prompts import without_thoughts

FULL_MARK = 25.0
"""Marks are given from 0 to this."""

LONGEST = 1 << 16
"""Characters. An answer has a few hundred."""

_WINNERS = {"a": Choice.FIRST, "b": Choice.SECOND, "tie": Choice.TIE}
_NUMBER = r"[+-]?\d{1,6}(?:\.\d{1,6})?"
_MARKS = re.compile(rf"""["']?\bscores?\b["']?\s*[:=]\s*\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]""", re.I)
_SOME_MARKS = re.compile(r"""["']?\bscores?\b["']?\s*[:=]""", re.I)
_WINNER = re.compile(
    r"""["']?\bwinner\b["']?\s*[:=]\s*["']?((?:(?:image|edit|picture|option)\s+)?[a-z]{1,3})(?=["']?\s*(?:[}\],.;]|$))""",
    re.I | re.M,
)
_SOME_WINNER = re.compile(r"""["']?\bwinner\b["']?\s*[:=]""", re.I)
_PREFIX = re.compile(r"(?:image|edit|picture|option)[\s_]*", re.I)

MARKS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string"},
        "score": {
            "type": "array",
            "items": {"type": "number", "minimum": 0, "maximum": FULL_MARK},
            "minItems": 2,
            "maxItems": 2,
        },
    },
    "required": ["reasoning", "score"],
    "additionalProperties": False,
}
WINNER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"reasoning": {"type": "string"}, "winner": {"type": "string", "enum": ["A", "B", "Tie"]}},
    "required": ["reasoning", "winner"],
    "additionalProperties": False,
}
"""JSON schemas of the answers, for servers that can hold a model to one."""


def read_marks(answer: str) -> tuple[float, float] | None:
    """The two marks of an answer, each 0 to 25; None where it does not give exactly two such marks."""
    text = without_thoughts(answer[:LONGEST])
    objects, clean = _objects(text)
    found = [_marks(entry["score"]) for entry in objects if "score" in entry]
    if not (found and clean):
        # A model that writes quotes inside its reasons unescaped has still given its marks. Marks of which only a part
        # can be read, or that are given twice in different ways, have not been given.
        matches = _MARKS.findall(text)
        if len(_SOME_MARKS.findall(text)) != len(matches):
            return None
        found += [_marks([float(first), float(second)]) for first, second in matches]
    return found[0] if found and all(marks == found[0] for marks in found) else None


def read_winner(answer: str) -> Choice | None:
    """Which of A and B an answer prefers, or a tie; None where it does not say exactly one of them."""
    text = without_thoughts(answer[:LONGEST])
    objects, clean = _objects(text)
    found = [_winner(entry["winner"]) for entry in objects if "winner" in entry]
    if not (found and clean):
        matches = _WINNER.findall(text)
        if len(_SOME_WINNER.findall(text)) != len(matches):
            return None
        found += [_winner(word) for word in matches]
    return found[0] if found and all(choice is found[0] for choice in found) else None


def _marks(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    for mark in value:
        # A boolean is an int in Python, and JSON as Python reads it has NaN and Infinity.
        if isinstance(mark, bool) or not isinstance(mark, (int, float)) or not 0 <= mark <= FULL_MARK:
            return None
        if not math.isfinite(mark):
            return None
    first, second = value
    return float(first), float(second)


def _winner(value: Any) -> Choice | None:
    return _WINNERS.get(_PREFIX.sub("", value.strip()).lower()) if isinstance(value, str) else None


def _objects(text: str) -> tuple[list[Mapping[str, Any]], bool]:
    """The JSON objects in a text, one after the other, without those inside another one; and whether every brace
    opened one. Where one did not, an object may be a quotation inside something that is none."""
    decoder, at, found, clean = json.JSONDecoder(object_pairs_hook=_once), text.find("{"), [], True
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            clean, end = False, at + 1
        else:
            found.append(value)
        at = text.find("{", end)
    return found, clean


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once; Python's reader would take the last one of several."""
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("a key is there twice")
    return named
