"""What edits lose when a MoE-LoRA's experts become one ordinary LoRA, on the mini models; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/flattened.py [--edits N] [--measured N] [--files WEIGHTS:RANK,...]

Rows: the routed MoE-LoRA, its ordinary part alone, and Flatten MoE-LoRA's files by weights and rank, loaded with
ComfyUI's own loader. `success` as in mini_editbench.py, on N held-out edits with one seed; usage is measured on other
edits. `gained` and `lost` count the edits that succeed with the file alone and with routing alone, `away` is how far
the edited panels are from the routed ones (root mean square of the colour channels, 0..1).
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from in_process import PACK, load_host_and_pack
from mini_editbench import BATCH, MODELS, SAMPLER, SEED, Stack, held_out, summary

NAME = "mini_moe_lora.safetensors"
MEASURED_FROM = 1000
"""The edits for the usage come after this many of the held-out ones."""


def measured(stack: Stack, edits: Sequence[Any]) -> Any:
    """Expert Usage's usage over edits."""
    model = stack.adapted["MoE-LoRA top_k 1"]
    return stack.host.call("ExpertUsage", model=model, seed=SEED + 1, **SAMPLER, **stack.inputs(edits, "ICEdit"))[2]


def models(stack: Stack, usage: Any, files: Sequence[str]) -> Iterator[tuple[dict[str, Any], Any]]:
    """A row and its model."""
    (base,) = stack.host.call("UNETLoader", unet_name="mini_fill.safetensors", weight_dtype="default")
    yield {"model": "routed"}, stack.adapted["MoE-LoRA top_k 1"]
    plain = stack.host.call("MoELoRALoader", model=base, lora_name=NAME, strength=1.0, expert_strength=0.0)[0]
    yield {"model": "without experts"}, plain
    for weights, rank in (file.split(":") for file in files):
        name, report = stack.host.call("FlattenMoELoRA", lora_name=NAME, weights=weights, rank=int(rank), usage=usage)
        (loaded,) = stack.host.call("LoraLoaderModelOnly", model=base, lora_name=name, strength_model=1.0)
        yield {"model": "flattened", "weights": weights, "rank": int(rank), "loss": report.splitlines()[2]}, loaded


def panels(stack: Stack, model: Any, edits: Sequence[Any]) -> Any:
    """The edits' right panels `b 3 128 128`."""
    import torch

    found = []
    for start in range(0, len(edits), BATCH):
        inputs = stack.inputs(edits[start : start + BATCH], "ICEdit")
        (latent,) = stack.host.call("KSampler", model=model, seed=SEED, **SAMPLER, **inputs)
        found.append(stack.panels(latent))
    return torch.cat(found)


def rows(stack: Stack, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from icedit.mini.success import verdict

    edits = held_out(asked.edits)
    others = held_out(MEASURED_FROM + asked.measured)[MEASURED_FROM:]
    routed, before = None, []
    for row, model in models(stack, measured(stack, others), asked.files.split(",")):
        shown = panels(stack, model, edits)
        verdicts = [verdict(edit, panel) for edit, panel in zip(edits, shown, strict=True)]
        won = [verdict.success for verdict in verdicts]
        if routed is None:
            routed, before = shown, won
        row |= {"edits": len(edits)} | summary(edits, verdicts)
        row["gained"] = sum(new and not old for new, old in zip(won, before, strict=True))
        row["lost"] = sum(old and not new for new, old in zip(won, before, strict=True))
        row["away"] = round((shown - routed).square().mean().sqrt().item(), 4)
        print("\n" + json.dumps(row), file=sys.stderr)
        yield row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--edits", type=int, default=60)
    parser.add_argument("--measured", type=int, default=12)
    parser.add_argument("--files", default="equal:0,measured:0,fitted:0,fitted:32")
    asked = parser.parse_args()
    load_host_and_pack()
    sys.path.insert(0, str(PACK / "tests"))
    import folder_paths
    from support.inprocess import InProcessHost

    with tempfile.TemporaryDirectory() as folder:
        stack = Stack.load(InProcessHost.start(MODELS, Path(folder), PACK))
        # New files go into the first loras folder.
        (Path(folder) / "loras").mkdir()
        folder_paths.add_model_folder_path("loras", str(Path(folder) / "loras"), is_default=True)
        print(json.dumps({"flattened": list(rows(stack, asked))}))


if __name__ == "__main__":
    main()
