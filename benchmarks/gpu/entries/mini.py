"""How many of the held-out edits the mini models get right on this device, in its own precision."""

from collections.abc import Iterator
from typing import Any

from ..setting import Setting


def figures(setting: Setting, count: int | None = None) -> Iterator[dict[str, Any]]:
    setting.start()
    import torch
    from mini_editbench import Stack, held_out, one_seed, summary

    stack, edits = Stack.load(setting.host), held_out(count or setting.size.edits)
    for name in ("MoE-LoRA top_k 1", "LoRA"):
        model = stack.adapted[name]
        with torch.inference_mode():
            found = summary(edits, list(one_seed(stack, model, edits, "ICEdit")))
        yield {name: found | {"dtype": str(model.model_dtype()).removeprefix("torch.")}}
