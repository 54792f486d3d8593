"""Pairs to train on in tests: coarse colours, and the same with the right half inverted."""

from typing import Any

import torch
from icedit.training.pairs.pair import EditPair, EditPairs

SIZE = (32, 32)


def edit_pairs(count: int = 4, held_out: int = 1, sizes: tuple[tuple[int, int], ...] = (SIZE,)) -> EditPairs:
    """Pairs whose sizes are `sizes` in turn; every one has two instructions."""
    pairs = [
        EditPair(f"pair {index}", (f"invert number {index}", f"turn number {index} around"), f"task {index % 2}")
        for index in range(count + held_out)
    ]
    buckets = {pair.id: sizes[index % len(sizes)] for index, pair in enumerate(pairs)}

    def read(pair: EditPair) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = buckets[pair.id]
        generator = torch.Generator().manual_seed(int(pair.id.split()[1]))
        coarse = torch.rand(height // 8, width // 8, 3, generator=generator)
        source = coarse.repeat_interleave(8, 0).repeat_interleave(8, 1)
        edited = source.clone()
        edited[:, width // 2 :] = 1 - edited[:, width // 2 :]
        return source, edited

    return EditPairs(tuple(pairs[:count]), tuple(pairs[count:]), buckets, read, f"{count} {held_out} {sizes}")


def inputs(host: Any, **changes: Any) -> dict[str, Any]:
    """Inputs of TrainMoELoRA for a few quick steps on the tiny stack."""
    if "model" not in changes:
        changes = {"model": host.load_model(), "clip": host.load_clip(), "vae": host.load_vae(), **changes}
    small = {
        "pairs": edit_pairs(), "name": "taught", "steps": 3, "learning_rate": 1e-3, "optimizer": "AdamW",
        "schedule": "constant", "rank": 4, "experts": 4, "top_k": 1, "adapter": "MoE", "batch_size": 2,
        "accumulate": 1, "seed": 1, "sample_every": 0,
    }  # fmt: skip
    return small | changes
