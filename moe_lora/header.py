"""The settings of PEFT that diffusers writes into a LoRA file's header; the scale of the layers is among them."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import FileError
from .flux_keys import without_prefix

METADATA_KEY = "lora_adapter_metadata"

CARD_KEY = "icedit_adapter"
"""The entry in which the trainer of this pack keeps what it made, as JSON."""

_HEADER = f"{METADATA_KEY} in the file's header"
_WAY_OUT = "Download the file again, or save it again with diffusers."
_PATTERN = re.compile(r"\^?(?:[\w\-()|]|\.\*|\\?\.|\\d\+?)*\$?")
_MAX_WILDCARDS = 3
"""PEFT takes any regular expression, but a file from the internet could hold one that takes exponential time."""


@dataclass(frozen=True)
class AdapterHeader:
    """Rank and alpha of the layers, after PEFT's LoraConfig.

    Attributes:
        rank, alpha: for all layers; None when the header does not say.
        rank_pattern, alpha_pattern: for the layers whose names end in these regular expressions.
        rank_stabilized: the scale is alpha / sqrt(rank) instead of alpha / rank.
    """

    rank: float | None = None
    alpha: float | None = None
    rank_pattern: Mapping[str, float] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    rank_stabilized: bool = False

    @classmethod
    def read(cls, metadata: Mapping[str, str] | None) -> "AdapterHeader":
        """From the header of a safetensors file; empty where there is none.

        Raises:
            FileError: it is there and cannot be understood, so that the strength of the layers is unknown.
        """
        text = (metadata or {}).get(METADATA_KEY)
        if text is None:
            return cls()
        try:
            settings = json.loads(text)
        except ValueError as error:
            raise FileError(f"{_HEADER} is no JSON ({error}), expected PEFT's settings. {_WAY_OUT}") from error
        if not isinstance(settings, dict):
            raise FileError(f"{_HEADER} is {text[:60]!r}, expected PEFT's settings by name. {_WAY_OUT}")
        # "transformer.r" beside "text_encoder.r"; PEFT itself writes no prefix.
        of_model = {without_prefix(name): value for name, value in settings.items()}
        return cls(
            rank=_number("r", of_model.get("r")),
            alpha=_number("lora_alpha", of_model.get("lora_alpha")),
            rank_pattern=_numbers("rank_pattern", of_model.get("rank_pattern")),
            alpha_pattern=_numbers("alpha_pattern", of_model.get("alpha_pattern")),
            rank_stabilized=bool(of_model.get("use_rslora")),
        )

    def alpha_of(self, layer: str, rank: int) -> float | None:
        """The alpha of a layer of that rank, in the sense that its scale is alpha / rank; None when unknown."""
        alpha = _matching(self.alpha_pattern, layer, self.alpha)
        if alpha is None:
            return None
        return alpha * math.sqrt(rank) if self.rank_stabilized else alpha

    def rank_of(self, layer: str) -> float | None:
        return _matching(self.rank_pattern, layer, self.rank)


def trained_top_k(metadata: Mapping[str, str] | None) -> int | None:
    """How many experts worked on each token in training; None where the file does not say.

    Raises:
        FileError: it says something that is no such number.
    """
    text = (metadata or {}).get(CARD_KEY)
    if text is None:
        return None
    try:
        top_k = json.loads(text).get("top_k")
    except (ValueError, AttributeError) as error:
        raise FileError(
            f"{CARD_KEY} in the file's header is no JSON object ({error}). Train or copy it again."
        ) from error
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        raise FileError(
            f"top_k of {CARD_KEY} in the file's header is {top_k!r}, expected a number of experts. Train or "
            "copy it again."
        )
    return top_k


def _matching(patterns: Mapping[str, float], layer: str, otherwise: float | None) -> float | None:
    return next((value for name, value in patterns.items() if re.fullmatch(rf"(.*\.)?({name})", layer)), otherwise)


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FileError(f"{name} of {_HEADER} is {value!r}, expected a number. {_WAY_OUT}")
    return float(value)


def _numbers(name: str, values: Any) -> dict[str, float]:
    if not isinstance(values or {}, dict):
        raise FileError(f"{name} of {_HEADER} is {values!r}, expected a number for each layer. {_WAY_OUT}")
    numbers = {}
    for layer, value in (values or {}).items():
        if not _is_layer_pattern(layer):
            raise FileError(f"{name} of {_HEADER} names {layer[:80]!r}, expected a layer's name. {_WAY_OUT}")
        number = _number(f"{name}[{layer!r}]", value)
        if number is not None:
            numbers[layer] = number
    return numbers


def _is_layer_pattern(text: str) -> bool:
    if len(text) > 200 or text.count("*") + text.count("+") > _MAX_WILDCARDS or not _PATTERN.fullmatch(text):
        return False
    try:
        re.compile(text)
    except re.error:
        return False
    return True
