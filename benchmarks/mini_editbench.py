"""How often the mini models' edits succeed, measured against the known scenes; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/mini_editbench.py [--edits N] [--filtered N] [--rows REGEX]
        [--picture FILE]

The edits are a fixed held-out set, the same number of every task. An edit succeeds when it is done and the rest is
preserved (mini/success.py). Rows: the autoencoder alone; one seed with the base model, the LoRA and the MoE-LoRA by
top_k, with and without ICEdit's sentence; the early filter by judge, candidates and probe steps, with its evaluations.
`success` is a share, `interval` its 95 % Wilson interval. The picture shows the first edit of every task, the source
above the result. All rows take more than an hour on two CPU cores; REGEX selects some ("MoE.*top_k 1.*ICEdit", "filter
scene 6 4").
"""

import argparse
import json
import math
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from in_process import PACK, load_host_and_pack

MODELS = PACK / "mini" / "models"
BATCH, STEPS, SEED, HELD_OUT = 24, 28, 1, 20_000
FILTERS = (("scene", 2, 4, 1), ("scene", 4, 4, 2), ("scene", 6, 2, 2), ("scene", 6, 4, 2), ("scene", 12, 4, 2))
FILTERS += (("pixels", 6, 4, 2),)
"""Judge, candidates, probe steps, keep."""


@dataclass(frozen=True)
class Stack:
    """The mini models in a running host; `adapted` are models by name."""

    host: Any
    clip: Any
    vae: Any
    adapted: dict[str, Any]

    @classmethod
    def load(cls, host: Any) -> "Stack":
        import folder_paths

        for kind in MODELS.iterdir():
            folder_paths.add_model_folder_path(kind.name, str(kind))
        (base,) = host.call("UNETLoader", unet_name="mini_fill.safetensors", weight_dtype="default")
        (lora,) = host.call("LoraLoaderModelOnly", model=base, lora_name="mini_lora.safetensors", strength_model=1.0)
        models = {"base": base, "LoRA": lora}
        for top_k in (1, 2, 4):
            loaded = host.call(
                "MoELoRALoader", model=base, lora_name="mini_moe_lora.safetensors", strength=1.0, top_k=top_k
            )
            models[f"MoE-LoRA top_k {top_k}"] = loaded[0]
        names = {"clip_name1": "mini_clip_l.safetensors", "clip_name2": "mini_t5.safetensors", "type": "flux"}
        (clip,) = host.call("DualCLIPLoader", **names)
        (vae,) = host.call("VAELoader", vae_name="mini_ae.safetensors")
        return cls(host, clip, vae, models)

    def inputs(self, edits: Sequence[Any], template: str, pictures: Any = None) -> dict[str, Any]:
        """KSampler's positive, negative and latent_image for a batch of edits of `pictures`, or of their scenes."""
        import torch
        from icedit.mini.render import render

        if pictures is None:
            pictures = torch.stack([render(edit.before) for edit in edits]).movedim(1, -1)
        diptych, mask, *_ = self.host.call("DiptychCreate", image="None", image_input=pictures, panel_width=128)
        encoded = [
            self.host.call(
                "InContextEditInstruction", editText=edit.instruction, clip=self.clip, guidance=50.0, template=template
            )[0][0]
            for edit in edits
        ]
        pooled = torch.cat([extra["pooled_output"] for _, extra in encoded])
        positive = [[_stacked([tokens for tokens, _ in encoded]), encoded[0][1] | {"pooled_output": pooled}]]
        (negative,) = self.host.call("ConditioningZeroOut", conditioning=positive)
        positive, negative, latent = self.host.call(
            "ICEFConditioning", In_context=positive, negative=negative, vae=self.vae, diptych=diptych, maskDiptych=mask
        )
        return {"positive": positive, "negative": negative, "latent_image": latent}

    def panels(self, latent: dict[str, Any]) -> Any:
        """The right panels `b 3 128 128` of a sampled LATENT."""
        (decoded,) = self.host.call("VAEDecode", samples=latent, vae=self.vae)
        return decoded[:, :, 128:].movedim(-1, 1)


def _stacked(contexts: Sequence[Any]) -> Any:
    import torch

    return torch.cat(list(contexts))


SAMPLER = {"steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}


def held_out(count: int) -> list[Any]:
    from icedit.mini.edits import TASKS, random_edit

    draw = random.Random(HELD_OUT)
    return [random_edit(draw, TASKS[index % len(TASKS)]) for index in range(count)]


def one_seed(stack: Stack, model: Any, edits: Sequence[Any], template: str) -> Iterator[Any]:
    """A verdict for each edit."""
    from icedit.mini.success import verdict

    for start in range(0, len(edits), BATCH):
        part = edits[start : start + BATCH]
        (latent,) = stack.host.call("KSampler", model=model, seed=SEED, **SAMPLER, **stack.inputs(part, template))
        yield from (verdict(edit, panel) for edit, panel in zip(part, stack.panels(latent), strict=True))


def drawn_only(stack: Stack, edits: Sequence[Any]) -> Iterator[Any]:
    """A verdict for each wanted picture, encoded and decoded: the loss by the autoencoder alone."""
    import torch
    from icedit.mini.render import render
    from icedit.mini.success import verdict

    for edit in edits:
        diptych = torch.cat([render(edit.before), render(edit.after)], 2).movedim(0, -1)[None]
        (latent,) = stack.host.call("VAEEncode", pixels=diptych, vae=stack.vae)
        yield verdict(edit, stack.panels(latent)[0])


def scene_judge() -> Any:
    """A judge that knows the scene that must come out: the upper bound for judges."""
    from icedit.early_filter.judge import Judge, Verdict
    from icedit.mini.success import verdict

    class SceneJudge(Judge):
        name = "scene"
        edit: Any = None

        def score(self, question: Any, edits: Sequence[Any], poll: Any) -> list[Verdict]:  # noqa: ARG002
            found = [verdict(self.edit, edit.panel.movedim(-1, 0)) for edit in edits]
            return [Verdict(score=each.done - 5 * each.wrong) for each in found]

    return SceneJudge()


def filtered(stack: Stack, model: Any, edits: Sequence[Any], setting: tuple[str, int, int, int]) -> Iterator[Any]:
    """A verdict for each edit with the seed that the filter chose."""
    from icedit.early_filter.judges.pixels import PixelJudge
    from icedit.mini.success import verdict

    name, candidates, probe_steps, keep = setting
    judge = scene_judge() if name == "scene" else PixelJudge()
    asked = {"candidates": candidates, "probe_steps": probe_steps, "keep": keep, "mode": "resume"}
    for edit in edits:
        if name == "scene":
            judge.edit = edit
        latent = stack.host.call(
            "EarlyFilterSampler", model=model, seed=SEED, vae=stack.vae, instruction=edit.instruction,
            panel="right half", judge=judge, **asked, **SAMPLER, **stack.inputs([edit], "ICEdit"),
        )[0]  # fmt: skip
        yield verdict(edit, stack.panels(latent)[0])


def summary(edits: Sequence[Any], verdicts: Sequence[Any]) -> dict[str, Any]:
    from icedit.mini.edits import TASKS

    won = [verdict.success for verdict in verdicts]
    tasks = {
        task: round(
            sum(w for w, edit in zip(won, edits, strict=True) if edit.task == task) * len(TASKS) / len(edits), 3
        )
        for task in TASKS
    }
    edited = sum(verdict.edited for verdict in verdicts) / len(edits)
    kept = sum(verdict.kept for verdict in verdicts) / len(edits)
    return {
        "success": round(sum(won) / len(edits), 3), "interval": wilson(sum(won), len(edits)),
        "edited": round(edited, 3), "kept": round(kept, 3), "tasks": tasks,
    }  # fmt: skip


def wilson(won: float, count: int) -> list[float]:
    share, z = won / count, 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return [round(middle - half, 3), round(middle + half, 3)]


def draw_gallery(stack: Stack, file: Path) -> None:
    """Draw the first held-out edit of every task, successful or not."""
    import torch
    from icedit.mini.edits import TASKS
    from icedit.mini.render import render
    from PIL import Image

    edits = held_out(len(TASKS))
    inputs = stack.inputs(edits, "ICEdit")
    (latent,) = stack.host.call("KSampler", model=stack.adapted["MoE-LoRA top_k 1"], seed=SEED, **SAMPLER, **inputs)
    columns = [
        torch.nn.functional.pad(torch.cat([render(edit.before), panel.clamp(0, 1)], 1), (3, 3, 0, 0), value=1.0)
        for edit, panel in zip(edits, stack.panels(latent), strict=True)
    ]
    pixels = (torch.cat(columns, 2).movedim(0, -1) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(file, quality=90)


@dataclass(frozen=True)
class Options:
    """How much to measure."""

    edits: int
    filtered: int
    rows: re.Pattern[str]

    def wants(self, *name: Any) -> bool:
        return self.rows.search(" ".join(str(part) for part in name)) is not None


def one_seed_rows(stack: Stack, options: Options) -> Iterator[dict[str, Any]]:
    edits = held_out(options.edits)
    if options.wants("autoencoder"):
        row = {"model": "none, the wanted picture encoded and decoded", "edits": len(edits), "evaluations": 0}
        yield row | summary(edits, list(drawn_only(stack, edits)))
    for name, model in stack.adapted.items():
        for template in ("ICEdit", "none") if "top_k" not in name or name.endswith("1") else ("ICEdit",):
            if options.wants(name, template):
                row = {"model": name, "template": template, "edits": len(edits), "evaluations": STEPS}
                yield row | summary(edits, list(one_seed(stack, model, edits, template)))


def filter_rows(stack: Stack, options: Options) -> Iterator[dict[str, Any]]:
    from icedit.early_filter.plan import Plan

    edits, model = held_out(options.filtered), stack.adapted["MoE-LoRA top_k 1"]
    if options.wants("filter none"):
        alone = [verdict for edit in edits for verdict in one_seed(stack, model, [edit], "ICEdit")]
        yield {"judge": "none", "edits": len(edits), "evaluations": STEPS} | summary(edits, alone)
    for setting in FILTERS:
        if options.wants("filter", *setting):
            judge, candidates, probe_steps, keep = setting
            spent = Plan("resume", SEED, candidates, probe_steps, keep, STEPS).most_evaluations
            row = {"judge": judge, "candidates": candidates, "probe_steps": probe_steps, "keep": keep}
            row |= {"edits": len(edits), "evaluations": spent}
            yield row | summary(edits, list(filtered(stack, model, edits, setting)))


def told(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows; each is also printed to stderr as soon as it is measured."""
    known = []
    for row in rows:
        print("\n" + json.dumps(row), file=sys.stderr)
        known.append(row)
    return known


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--edits", type=int, default=240)
    parser.add_argument("--filtered", type=int, default=120)
    parser.add_argument("--rows", type=re.compile, default=re.compile(""))
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    options = Options(asked.edits, asked.filtered, asked.rows)
    load_host_and_pack()
    sys.path.insert(0, str(PACK / "tests"))
    from support.inprocess import InProcessHost

    with tempfile.TemporaryDirectory() as folder:
        stack = Stack.load(InProcessHost.start(MODELS, Path(folder), PACK))
        if asked.picture:
            draw_gallery(stack, asked.picture)
        print(
            json.dumps({"one_seed": told(one_seed_rows(stack, options)), "filter": told(filter_rows(stack, options))})
        )


if __name__ == "__main__":
    main()
