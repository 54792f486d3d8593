"""What training on pairs teaches the mini models; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/teach.py [new] [curve] [share] [router] [host]
        [--task move|enlarge|mirror] [--steps N] [--rate R] [--batch N] [--pairs N] [--old-pairs N] [--share X]
        [--crops N] [--changed-weight X] [--start FILE] [--keep FILE] [--edits N] [--seeds N] [--rows REGEX] [--cuda]

The pairs are drawn by the picture world, read by *Load Edit Pairs* and learned by *Train MoE-LoRA*.
`new`: a task that no shipped adapter knows (move: "move the red circle to the top left"; enlarge; mirror the whole
picture"), from the shipped MoE-LoRA or a FILE that an earlier run kept, a share of every batch old pairs: success on
held-out edits of the new task and of the six old ones, before and after.
`curve`: the same by number of new pairs; `share`: by share of old pairs.
`router`: the six old tasks from the bare base model: a learned router, the published one without a gradient, and an
ordinary LoRA of as many parameters, several seeds each, and how far experts specialise by task.
`host`: an ordinary LoRA from the base by ComfyUI's own Train LoRA and by ours, same pairs, steps and batch: success,
seconds a step, memory.
REGEX selects rows by their names ("800 pairs", "learned router 2"), for runs side by side. `--cuda`: on the GPU, in
float32, as on the CPU; a step's seconds are then those of the clock.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from in_process import PACK, load_host_and_pack
from mini_editbench import MODELS, Stack, held_out
from teach_edits import NEW_TASKS, drawn, old_edit
from teach_school import PeakMemory, School

OLD_SEED, NEW_SEED, TEST_SEED = 11, 12, 30_000
EQUAL_RANK = 78
"""An ordinary LoRA of this rank on the layers of ICEdit's has as many parameters as the mini MoE-LoRA of rank 32."""


def tests(options: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    return drawn(options.edits, TEST_SEED, NEW_TASKS[options.task]), held_out(options.edits)


Rows = Mapping[str, Callable[[], dict[str, Any]]]


def rows(options: argparse.Namespace, named: Rows) -> Iterator[dict[str, Any]]:
    """Those that were asked for, one by one."""
    yield from (make() for name, make in named.items() if re.search(options.rows, name))


def new(school: School, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Before training, and after."""

    def before() -> dict[str, Any]:
        unknown, known = tests(options)
        shipped = school.stack.adapted["MoE-LoRA top_k 1"]
        return {"row": "shipped", "new": school.success(shipped, unknown), "old": school.success(shipped, known)}

    yield from rows(options, {"shipped": before})
    yield from rows(options, {options.task: lambda: after(school, options, options.task, options.pairs, options.share)})


def after(school: School, options: argparse.Namespace, name: str, count: int, share: float) -> dict[str, Any]:
    """Taught `count` new pairs, old pairs being `share` of what is drawn."""
    unknown, known = tests(options)
    groups = [(drawn(count, NEW_SEED, NEW_TASKS[options.task]), 1 - share)]
    groups += [(drawn(options.old_pairs, OLD_SEED, old_edit), share)] if share else []
    pairs = school.pairs(name, groups)
    start = "mini_moe_lora.safetensors"
    if options.start:
        start = "start.safetensors"
        shutil.copy(options.start, school.folder / "loras" / start)
    taught = school.taught(name, pairs, options.steps, start_from=start)
    if options.keep:
        shutil.copy(school.folder / "loras" / taught.lora, options.keep)
    model = school.adapted(taught.lora)
    return {
        "row": name, "task": options.task, "pairs": count, "crops": options.crops, "share of old pairs": share,
        "steps": options.steps, "rate": options.rate, "batch": options.batch, "changed_weight": options.changed_weight,
        "step_seconds": taught.step_seconds,
        "new": school.success(model, unknown), "old": school.success(model, known),
        "own pairs": school.success(model, groups[0][0][: options.edits]),
    }  # fmt: skip


def curve(school: School, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    def of(count: int) -> Callable[[], dict[str, Any]]:
        return lambda: after(school, options, f"{count} pairs", count, options.share)

    yield from rows(options, {f"{count} pairs": of(count) for count in (25, 50, 100, 200, 400, 800)})


def share(school: School, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    def of(old: float) -> Callable[[], dict[str, Any]]:
        return lambda: after(school, options, f"share {old}", options.pairs, old)

    yield from rows(options, {f"share {old}": of(old) for old in (0.0, 0.25, 0.5, 0.75)})


def router(school: School, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    known = held_out(options.edits)
    pairs = school.pairs("router", [(drawn(options.old_pairs, OLD_SEED, old_edit), 1.0)])
    kinds = {
        "learned router": {"router": "learned"},
        "as published": {"router": "as published", "balance": 0.0},
        "ordinary LoRA": {"adapter": "ordinary", "rank": EQUAL_RANK},
    }

    def of(kind: str, seed: int) -> Callable[[], dict[str, Any]]:
        def row() -> dict[str, Any]:
            taught = school.taught(f"{kind} {seed}", pairs, options.steps, seed=seed, **kinds[kind])
            row = {"row": f"{kind} {seed}", "steps": options.steps, "step_seconds": taught.step_seconds}
            return row | {"old": school.success(school.adapted(taught.lora), known), "experts": taught.experts}

        return row

    yield from rows(options, {f"{kind} {seed}": of(kind, seed) for seed in range(options.seeds) for kind in kinds})


def host(school: School, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """ComfyUI's Train LoRA takes one conditioning a picture and computes them one by one.

    Both with checkpointing: without it ComfyUI's has no gradients through its FLUX, which adds to its inputs in place.
    """
    import torch
    from icedit.mini.render import render

    known, stack = held_out(options.edits), school.stack
    edits = drawn(options.pairs, OLD_SEED, old_edit)
    pairs = school.pairs("host", [(edits, 1.0)])
    settings = {"adapter": "ordinary", "batch_size": 1, "checkpointing": True}
    # Pairs are encoded once for all trainings; ComfyUI's gets them encoded.
    school.taught("first", pairs, 1, **settings)
    with PeakMemory() as memory:
        taught = school.taught("ours", pairs, options.steps, **settings)
    row = {"row": "ours, batch 1", "steps": options.steps, "step_seconds": taught.step_seconds}
    yield row | {"more_mb": memory.more_mb, "old": school.success(school.adapted(taught.lora), known)}
    latents, positives = [], []
    for edit in edits:
        pair = torch.cat([render(edit.before), render(edit.after)], 2).movedim(0, -1)[None]
        given = stack.inputs([edit], "ICEdit")
        latents.append(stack.host.call("VAEEncode", pixels=pair, vae=stack.vae)[0])
        positives.append(given["positive"])
    start = time.process_time()
    with PeakMemory() as memory:
        trained = stack.host.call(
            "TrainLoraNode", model=[school.base], latents=latents, positive=positives, batch_size=[1],
            grad_accumulation_steps=[1], steps=[options.steps], learning_rate=[options.rate], rank=[32],
            optimizer=["AdamW"], loss_function=["MSE"], seed=[0], training_dtype=["fp32"], lora_dtype=["fp32"],
            quantized_backward=[False], algorithm=["LoRA"], gradient_checkpointing=[True], checkpoint_depth=[1],
            offloading=[False],
            existing_lora=["[None]"], bucket_mode=[False], bypass_mode=[False],
        )  # fmt: skip
    seconds = (time.process_time() - start) / options.steps
    (model,) = stack.host.call("LoraModelLoader", model=school.base, lora=trained[0], strength_model=1.0, bypass=False)
    row = {
        "row": "ComfyUI's Train LoRA",
        "steps": options.steps,
        "step_seconds": round(seconds, 3),
        "more_mb": memory.more_mb,
    }
    yield row | {"old": school.success(model, known)}


PARTS: dict[str, Callable[[School, argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "new": new, "curve": curve, "share": share, "router": router, "host": host,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--steps", type=int, default=1128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--old-pairs", type=int, default=1000)
    parser.add_argument("--share", type=float, default=0.5, help="of old pairs in what is drawn")
    parser.add_argument("--crops", type=int, default=0)
    parser.add_argument("--changed-weight", type=float, default=5.0)
    parser.add_argument("--start", type=Path, help="a file to start from in place of the shipped one")
    parser.add_argument("--keep", type=Path, help="where a copy of the trained file stays")
    parser.add_argument("--edits", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--task", choices=NEW_TASKS, default="move")
    parser.add_argument("--rows", default="", metavar="REGEX")
    parser.add_argument("--cuda", action="store_true")
    options = parser.parse_args()
    load_host_and_pack(options.cuda, ["--force-fp32", "--fp32-text-enc"] if options.cuda else [])
    from support.inprocess import InProcessHost

    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = Stack.load(InProcessHost.start(MODELS, folder, PACK))
        import folder_paths

        # What is learned goes into the first folder of loras, which must not be the pack's own.
        (folder / "loras").mkdir()
        folder_paths.folder_names_and_paths["loras"][0].insert(0, str(folder / "loras"))
        folder_paths.set_input_directory(str(folder / "input"))
        (base,) = stack.host.call("UNETLoader", unet_name="mini_fill.safetensors", weight_dtype="default")
        school = School(stack, base, folder, options)
        for part in options.parts or PARTS:
            figures[part] = []
            for row in PARTS[part](school, options):
                print(json.dumps(row), file=sys.stderr, flush=True)
                figures[part].append(row)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
