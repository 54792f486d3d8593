"""A training step of the MoE-LoRA."""

from collections.abc import Iterator
from typing import Any

from ..setting import Setting

NODE = "TrainMoELoRA"


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    setting.require(NODE)
    yield {}
