"""How much time the early filter takes besides its evaluations, decoding and judging; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/early_filter.py [spend [--edits N] [--pass-score X ...]]

Six candidates, four probe steps, two kept, 28 steps on a small FLUX Fill model and a 1024 x 512 diptych, on the CPU.
The overhead is what a run takes outside the model's calls, decoding and judging, as a share of its time inside the
model's calls. KSampler's overhead is measured in the same way, alternating with the filter in one run, so that a
machine whose speed changes from minute to minute does not affect the comparison. The target is at most 3 % above
KSampler's.

`spend` measures early stops instead, on edits of the mini models with a judge that knows the right picture: how many of
the edits succeed and how many evaluations they take when candidates are added only while none scores X, against all six
always. A finished edit that succeeds scores 0.75 at least; a preview needs more, because some of it is lost on the way.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from in_process import PACK, load_host_and_pack

ROUNDS = int(os.environ.get("ROUNDS", "3"))
STEPS, CANDIDATES, PROBE_STEPS, KEEP = 28, 6, 4, 2


def inputs(folder: Path) -> dict[str, Any]:
    """KSampler's inputs for a small Fill model, and the VAE."""
    import comfy.sd
    import nodes
    import torch
    from safetensors.torch import save_file
    from support.tiny_stack import FluxShape, flux, write_stack

    write_stack(folder)
    # Wide enough that an evaluation takes much longer than everything around it.
    save_file(flux(FluxShape(hidden=256, double_blocks=2, single_blocks=2)), folder / "model.safetensors")
    model = comfy.sd.load_diffusion_model(str(folder / "model.safetensors"))
    vae_file = next((folder / "vae").glob("*.safetensors"))
    import comfy.utils

    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(vae_file)))
    half = torch.rand(1, 32, 32, 3).repeat_interleave(16, 1).repeat_interleave(16, 2)
    mask = torch.zeros(1, 512, 1024)
    mask[..., 512:] = 1.0
    prompt = [[torch.randn(1, 256, 32), {"pooled_output": torch.randn(1, 32), "guidance": 50.0}]]
    positive, negative, latent = nodes.InpaintModelConditioning().encode(  # pyright: ignore[reportAttributeAccessIssue]
        prompt, prompt, torch.cat([half, half], dim=2), vae, mask
    )
    sampled = {
        "model": model, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
        "positive": positive, "negative": negative, "latent_image": latent, "denoise": 1.0,
    }  # fmt: skip
    return {"sampled": sampled, "vae": vae}


class Clock:
    """Seconds spent inside the model's calls."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def reset(self) -> float:
        """The seconds so far; counts from zero again."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def time(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return executor(*args, **kwargs)
        finally:
            self._seconds += time.perf_counter() - start


def measure(sampled: dict[str, Any], vae: Any) -> dict[str, Any]:
    import nodes
    from comfy.patcher_extension import WrappersMP
    from icedit.early_filter.judges.pixels import PixelJudge
    from icedit.early_filter.plan import Plan
    from icedit.host.early_filter.filter import FilterSettings, filter_latent
    from icedit.host.sampling import ksampler_process

    plan = Plan("resume", 0, CANDIDATES, PROBE_STEPS, KEEP, STEPS)
    clock = Clock()
    model = sampled["model"].clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "clock", clock.time)
    sampled = {**sampled, "model": model}
    names = ("steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "denoise")
    overheads, of_ksampler, filters, plains, outcome = [], [], [], [], None
    for number in range(ROUNDS + 1):
        clock.reset()
        start = time.perf_counter()
        process = ksampler_process(sampled["model"], *(sampled[name] for name in names))
        settings = FilterSettings(plan, process, None, vae, "", "right half", (PixelJudge(),))
        _, (outcome,) = filter_latent(settings, sampled["latent_image"])
        whole, inside = time.perf_counter() - start, clock.reset()
        start = time.perf_counter()
        nodes.KSampler().sample(**sampled, seed=outcome.winner)  # pyright: ignore[reportAttributeAccessIssue]
        plain, plain_inside = time.perf_counter() - start, clock.reset()
        if number == 0:
            continue  # warms up
        ours = whole - outcome.seconds["decoding"] - outcome.seconds["judging"]
        filters.append(whole)
        plains.append(plain)
        overheads.append(ours / inside - 1)
        of_ksampler.append(plain / plain_inside - 1)
    assert outcome is not None
    return {
        "evaluations": sum(outcome.evaluations.values()),
        "planned": plan.most_evaluations,
        "filter_seconds": round(statistics.median(filters), 2),
        "ksampler_seconds": round(statistics.median(plains), 2),
        "overhead": round(statistics.median(overheads), 4),
        "overheads": [round(overhead, 4) for overhead in overheads],
        "ksampler_overhead": round(statistics.median(of_ksampler), 4),
        "ksampler_overheads": [round(overhead, 4) for overhead in of_ksampler],
        "seconds": {name: round(seconds, 2) for name, seconds in outcome.seconds.items()},
    }


def spend(edits_wanted: int, pass_scores: list[float]) -> dict[str, Any]:
    """Success and evaluations of the same edits, all candidates always and by each threshold."""
    import mini_editbench
    from icedit.mini.success import verdict
    from support.inprocess import InProcessHost

    edits, judge = mini_editbench.held_out(edits_wanted), mini_editbench.scene_judge()
    asked = {"candidates": CANDIDATES, "probe_steps": PROBE_STEPS, "keep": KEEP, "mode": "resume"}
    ways = [{"stop_early": False}, *({"stop_early": True, "pass_score": score} for score in pass_scores)]
    with tempfile.TemporaryDirectory() as folder:
        stack = mini_editbench.Stack.load(InProcessHost.start(mini_editbench.MODELS, Path(folder), PACK))
        model = stack.adapted["MoE-LoRA top_k 1"]
        found: list[list[dict[str, Any]]] = [[] for _ in ways]
        for edit in edits:
            judge.edit, inputs = edit, stack.inputs([edit], "ICEdit")
            for way, rows in zip(ways, found, strict=True):
                latent, _, _, report = stack.host.call(
                    "EarlyFilterSampler", model=model, seed=mini_editbench.SEED, vae=stack.vae, judge=judge,
                    instruction=edit.instruction, panel="right half", **asked, **way, **mini_editbench.SAMPLER,
                    **inputs,
                )  # fmt: skip
                told = json.loads(report)
                tried = sum(candidate["evaluations"] > 0 for candidate in told["pictures"][0]["candidates"])
                won = verdict(edit, stack.panels(latent)[0]).success
                rows.append({"won": won, "spent": told["evaluations"]["spent"], "tried": tried})
    rows = [_spending(way, rows, found[0]) for way, rows in zip(ways, found, strict=True)]
    return {"edits": len(edits), "rows": rows}


def _spending(way: dict[str, Any], rows: list[dict[str, Any]], whole: list[dict[str, Any]]) -> dict[str, Any]:
    import mini_editbench

    won, spent, count = sum(row["won"] for row in rows), sum(row["spent"] for row in rows), len(rows)
    return way | {
        "success": round(won / count, 3),
        "interval": mini_editbench.wilson(won, count),
        "won_only_here": sum(row["won"] and not other["won"] for row, other in zip(rows, whole, strict=True)),
        "won_only_by_all": sum(other["won"] and not row["won"] for row, other in zip(rows, whole, strict=True)),
        "evaluations": round(spent / count, 2),
        "share": round(spent / sum(row["spent"] for row in whole), 3),
        "tried": {number: sum(row["tried"] == number for row in rows) for number in range(1, CANDIDATES + 1)},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("overhead", "spend"), nargs="?", default="overhead")
    parser.add_argument("--edits", type=int, default=60)
    parser.add_argument("--pass-score", type=float, nargs="+", default=[0.85, 0.9])
    asked = parser.parse_args()
    load_host_and_pack()
    import torch

    if asked.what == "spend":
        print(json.dumps(spend(asked.edits, asked.pass_score)))
        return
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        print(json.dumps(measure(**inputs(Path(folder)))))


if __name__ == "__main__":
    main()
