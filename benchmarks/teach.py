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
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from in_process import PACK, load_host_and_pack
from mini_editbench import MODELS, Stack, held_out, one_seed, summary

OLD_SEED, NEW_SEED, TEST_SEED = 11, 12, 30_000
LARGEST_TO_ENLARGE = 19.0
EQUAL_RANK = 78
"""An ordinary LoRA of this rank on the layers of ICEdit's has as many parameters as the mini MoE-LoRA of rank 32."""


def move(draw: random.Random) -> Any:
    """An edit of a kind that no shipped adapter has seen: a shape goes to a free quarter of the picture."""
    from icedit.mini.edits import SceneEdit
    from icedit.mini.scene import centre, random_scene

    scene = random_scene(draw)
    old, place = draw.choice(scene.shapes), draw.choice(scene.free_places())
    x, y = centre(place)
    after = scene.exchanging(old, replace(old, place=place, x=x, y=y))
    name = f"{old.colour} {old.kind}"
    return SceneEdit("move", scene, after, f"move the {name} to the {place}", f"the {name} is at the {place}")


def enlarge(draw: random.Random) -> Any:
    """A shape that has room for it becomes larger where it is."""
    from icedit.mini.edits import SceneEdit
    from icedit.mini.scene import random_scene

    scene = random_scene(draw)
    while not (small := [shape for shape in scene.shapes if shape.radius < LARGEST_TO_ENLARGE]):
        scene = random_scene(draw)
    old = draw.choice(small)
    after, name = scene.exchanging(old, replace(old, radius=1.4 * old.radius)), f"{old.colour} {old.kind}"
    return SceneEdit("enlarge", scene, after, f"enlarge the {name}", f"the {name} is larger")


def mirror(draw: random.Random) -> Any:
    """Left and right are exchanged. No checks: none in this world begin with the other colour."""
    from icedit.mini.edits import SceneEdit
    from icedit.mini.scene import PANEL, PLACES, random_scene

    scene = random_scene(draw)
    while scene.texture == "checked":
        scene = random_scene(draw)
    shapes = tuple(
        replace(shape, x=PANEL - shape.x, place=PLACES[PLACES.index(shape.place) ^ 1]) for shape in scene.shapes
    )
    return SceneEdit("mirror", scene, replace(scene, shapes=shapes), "mirror the picture", "the picture is mirrored")


NEW_TASKS = {"move": move, "enlarge": enlarge, "mirror": mirror}


def drawn(count: int, seed: int, make: Callable[[random.Random], Any]) -> list[Any]:
    draw = random.Random(seed)
    return [make(draw) for _ in range(count)]


def old_edit(draw: random.Random) -> Any:
    from icedit.mini.edits import random_edit

    return random_edit(draw)


@dataclass(frozen=True)
class Taught:
    """A trained file's name, how long a step took, and what *Train MoE-LoRA* said."""

    lora: str
    step_seconds: float
    report: str

    @property
    def experts(self) -> str | None:
        """How far experts specialise by task."""
        return next((line for line in self.report.splitlines() if line.startswith("Experts: ")), None)


@dataclass(frozen=True)
class School:
    """The host with the mini models, and folders for what is learned from."""

    stack: Stack
    base: Any
    folder: Path
    options: argparse.Namespace

    def pairs(self, name: str, groups: Sequence[tuple[Sequence[Any], float]]) -> Any:
        """Groups of edits, each with its share of what is drawn, as *Load Edit Pairs* reads them."""
        from icedit.mini.render import render
        from PIL import Image

        folder, rows = self.folder / "input" / name, []
        folder.mkdir(parents=True)
        for group, (edits, share) in enumerate(groups):
            for number, edit in enumerate(edits):
                row = {"id": f"{group}_{number}", "instruction": edit.instruction, "task": edit.task}
                for role, scene in (("source", edit.before), ("edited", edit.after)):
                    pixels = (render(scene).movedim(0, -1) * 255).round().byte().numpy()
                    row[role] = f"{row['id']}_{role}.png"
                    Image.fromarray(pixels).save(folder / row[role])
                rows.append(json.dumps(row | {"weight": share / len(edits)}))
        (folder / "pairs.jsonl").write_text("\n".join(rows))
        sources = f"{name}/pairs.jsonl"
        settings = {"panel_size": 128, "held_out": 0, "crops": self.options.crops}
        return self.stack.host.call("LoadEditPairs", sources=sources, **settings)[0]

    def taught(self, name: str, pairs: Any, steps: int, **settings: Any) -> "Taught":
        asked = {
            "steps": steps, "learning_rate": self.options.rate, "optimizer": "AdamW", "schedule": "cosine", "rank": 32,
            "experts": 4, "top_k": 1, "adapter": "MoE", "batch_size": self.options.batch, "accumulate": 1, "seed": 0,
            "checkpointing": False, "sample_every": 0, "save_every": 10_000, "caption_dropout": 0.0,
            "times": "uniform", "average": 0.995, "changed_weight": self.options.changed_weight,
        } | settings  # fmt: skip
        # CPU seconds are the same on a busy machine, but a GPU works besides them.
        clock = time.perf_counter if self.options.cuda else time.process_time
        begun = clock()
        lora, _, report = self.stack.host.call(
            "TrainMoELoRA", model=self.base, clip=self.stack.clip, vae=self.stack.vae, pairs=pairs, name=name, **asked
        )
        return Taught(lora, round((clock() - begun) / steps, 3), report)

    def adapted(self, lora: str) -> Any:
        return self.stack.host.call("MoELoRALoader", model=self.base, lora_name=lora, strength=1.0)[0]

    def success(self, model: Any, edits: Sequence[Any]) -> dict[str, Any]:
        verdicts = list(one_seed(self.stack, model, edits, "ICEdit"))
        told = summary(edits, verdicts)
        return {key: told[key] for key in ("success", "interval", "edited", "kept")}


class PeakMemory:
    """How far the process grew within; `more_mb` afterwards."""

    more_mb: int

    def __enter__(self) -> "PeakMemory":
        import psutil

        process, self._done = psutil.Process(), threading.Event()
        start = process.memory_info().rss

        def watch() -> None:
            most = start
            while not self._done.wait(0.02):
                most = max(most, process.memory_info().rss)
            self.more_mb = (most - start) // 2**20

        self._watcher = threading.Thread(target=watch)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()


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
