"""What reusing known tokens saves and costs, beside fewer steps and the host's step caches; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/known_tokens.py [world] [filter] [step] [--edits N] [--rows REGEX]
        [--shares S ...] [--rounds N]

`world`: held-out edits of the mini models' world, one seed, every way beside a plain run of the same edit: success,
PSNR of the decoded right panel against the plain run, evaluations, and compute as a share of a plain run's 28
evaluations. An evaluation counts as much as one at FLUX's width takes with so many of its picture tokens (SHORT_COST,
measured by `step`). "panel": the whole right panel may change; "region": the box that the edit changes; "rough":
photographic texture over the scenes, of which the models have learned nothing, so there PSNR alone counts.
`filter`: the early filter of six over a model that reuses, with decoding and judging, against one plain KSampler run.
`step`: full width, few blocks, 512 x 512 panels, 256 text tokens, bfloat16: CPU time of recording and short evaluations
by the open share of the right panel, as ratios to plain ones in the same run (median, least, most).
"""

import argparse
import json
import math
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from in_process import PACK, load_host_and_pack
from known_tokens_step import step_costs
from mini_editbench import MODELS, SAMPLER, SEED, STEPS, Stack, held_out, scene_judge, summary

SHORT_COST = (0.2, 0.8)
"""Share of a full evaluation's time that a short one takes: this, and this for all picture tokens."""

Way = Callable[[Stack, Any], tuple[Any, int]]
"""Makes of a stack and a model the model to sample with, and the number of steps."""


@dataclass
class Meter:
    """Counts what reaches the first transformer block of a model.

    Attributes:
        compute: evaluations, each with its cost as a share of one with all picture tokens.
    """

    evaluations: int = 0
    compute: float = 0.0
    _most: int = 0

    @contextmanager
    def on(self, model: Any) -> Iterator["Meter"]:
        block = model.model.diffusion_model.double_blocks[0]
        handle = block.register_forward_pre_hook(self._seen, with_kwargs=True)
        try:
            yield self
        finally:
            handle.remove()

    def _seen(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = (kwargs["img"] if "img" in kwargs else args[0]).shape[1]
        self._most = max(self._most, tokens)
        self.evaluations += 1
        share = tokens / self._most
        self.compute += 1.0 if share == 1 else SHORT_COST[0] + SHORT_COST[1] * share


def plain(steps: int = STEPS) -> Way:
    return lambda stack, model: (model, steps)  # noqa: ARG005


def reuse(refresh_every: int, first_steps: int, unchanged: str = "masked", skip_steps: float = 0.0) -> Way:
    def way(stack: Stack, model: Any) -> tuple[Any, int]:
        (made,) = stack.host.call(
            "ReuseKnownTokens", model=model, refresh_every=refresh_every, first_steps=first_steps,
            unchanged=unchanged, skip_steps=skip_steps,
        )  # fmt: skip
        return made, STEPS

    return way


def cache(node: str, threshold: float, over: Way | None = None) -> Way:
    def way(stack: Stack, model: Any) -> tuple[Any, int]:
        if over is not None:
            model, _ = over(stack, model)
        (made,) = stack.host.call(
            node, model=model, reuse_threshold=threshold, start_percent=0.15, end_percent=0.95, verbose=False
        )
        return made, STEPS

    return way


def ways() -> dict[str, Way]:
    """By family, from the least saving to the most."""
    found = {f"fewer steps {steps}": plain(steps) for steps in (18, 14, 9)}
    found |= {f"EasyCache {value}": cache("EasyCache", value) for value in (0.1, 0.2, 0.3, 0.5)}
    found |= {f"LazyCache {value}": cache("LazyCache", value) for value in (0.05, 0.1)}
    found |= {f"reuse {each}/{first}": reuse(each, first) for each, first in ((3, 4), (6, 4), (28, 2))}
    found |= {f"skip {value}": reuse(1, 4, skip_steps=value) for value in (0.003, 0.01)}
    found |= {f"reuse 6/4 skip {value}": reuse(6, 4, skip_steps=value) for value in (0.003, 0.006, 0.01)}
    found |= {f"reuse 9/2 skip {value}": reuse(9, 2, skip_steps=value) for value in (0.003, 0.01)}
    found["reuse 6/4 EasyCache 0.2"] = cache("EasyCache", 0.2, reuse(6, 4))
    found |= {
        f"unchanged {each}/{first} skip {skip}": reuse(each, first, "masked and unchanged", skip)
        for each, first, skip in ((6, 4, 0.0), (6, 4, 0.006), (8, 3, 0.01))
    }
    return found


@dataclass
class Measured:
    """What one way gave, edit by edit."""

    verdicts: list[Any] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    compute: list[float] = field(default_factory=list)
    evaluations: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def row(self, edits: Sequence[Any], seconds: float) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "compute": round(statistics.mean(self.compute) / STEPS, 3),
            "evaluations": round(statistics.mean(self.evaluations), 1),
            "seconds_ratio": round(sum(self.seconds) / seconds, 3),
        }
        if self.psnr:
            local = [psnr for psnr, edit in zip(self.psnr, edits, strict=True) if edit.task != "background"]
            shares = [share for share, edit in zip(self.compute, edits, strict=True) if edit.task != "background"]
            figures |= {"psnr": round(statistics.median(self.psnr), 1), "worst": round(min(self.psnr), 1)}
            figures["local"] = {
                "psnr": round(statistics.median(local), 1), "compute": round(statistics.mean(shares) / STEPS, 3)
            }  # fmt: skip
        return figures | {key: summary(edits, self.verdicts)[key] for key in ("success", "interval")}


def changed_box(edit: Any) -> Any:
    """1 in the box that the edit changes, `1 h w`, with two tokens around it."""
    import torch
    from icedit.mini.render import render

    differs = (render(edit.before) - render(edit.after)).abs().amax(0) > 0.02
    rows, columns = differs.nonzero(as_tuple=True)
    box = torch.zeros(1, *differs.shape)
    top, left = (max(0, int(at.min()) - 16) for at in (rows, columns))
    box[:, top : int(rows.max()) + 17, left : int(columns.max()) + 17] = 1.0
    return box


def textured(picture: Any, seed: int) -> Any:
    """Pink noise over a picture `3 h w`: the spectrum of photographs, which falls with the frequency."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    height, width = picture.shape[1:]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    spectrum = torch.fft.rfft2(torch.randn(3, height, width, generator=generator))
    noise = torch.fft.irfft2(
        spectrum / (rows.square() + columns.square()).sqrt().clamp(min=1 / height), s=(height, width)
    )
    return (picture + 0.12 * noise / noise.std()).clamp(0, 1)


def inputs_of(stack: Stack, edit: Any, kind: str) -> dict[str, Any]:
    """KSampler's conditioning and latent for one edit."""
    from icedit.mini.render import render

    picture = render(edit.before)
    if kind == "rough":
        picture = textured(picture, seed=len(edit.instruction))
    given = {"image": "None", "image_input": picture.movedim(0, -1)[None], "panel_width": 128}
    if kind == "region":
        given["region"] = changed_box(edit)
    diptych, mask, *_ = stack.host.call("DiptychCreate", **given)
    (positive, *_) = stack.host.call(
        "InContextEditInstruction", editText=edit.instruction, clip=stack.clip, guidance=50.0
    )
    (negative,) = stack.host.call("ConditioningZeroOut", conditioning=positive)
    positive, negative, latent = stack.host.call(
        "ICEFConditioning", In_context=positive, negative=negative, vae=stack.vae, diptych=diptych, maskDiptych=mask
    )
    return {"positive": positive, "negative": negative, "latent_image": latent}


def psnr(picture: Any, other: Any) -> float:
    error = float((picture.clamp(0, 1) - other.clamp(0, 1)).square().mean())
    return 99.0 if error == 0 else min(99.0, -10 * math.log10(error))


def world(stack: Stack, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from icedit.mini.success import verdict

    model = stack.adapted["MoE-LoRA top_k 1"]
    for kind in ("panel", "region", "rough"):
        edits = held_out(options.edits if kind != "rough" else max(24, options.edits // 4))
        wanted = {name: way for name, way in ways().items() if options.rows.search(f"{kind} {name}")}
        if not wanted:
            continue
        made = {name: way(stack, model) for name, way in ({"plain": plain()} | wanted).items()}
        found = {name: Measured() for name in made}
        for edit in edits:
            inputs, reference = inputs_of(stack, edit, kind), None
            for name, (changed, steps) in made.items():
                meter, begun = Meter(), time.perf_counter()
                with meter.on(model):
                    asked = SAMPLER | {"steps": steps}
                    (latent,) = stack.host.call("KSampler", model=changed, seed=SEED, **asked, **inputs)
                measured, panel = found[name], stack.panels(latent)[0]
                measured.seconds.append(time.perf_counter() - begun)
                measured.compute.append(meter.compute)
                measured.evaluations.append(meter.evaluations)
                measured.verdicts.append(verdict(edit, panel))
                if reference is None:
                    reference = panel
                else:
                    measured.psnr.append(psnr(panel, reference))
        seconds = sum(found["plain"].seconds)
        yield from (
            {"kind": kind, "way": name, "edits": len(edits)} | one.row(edits, seconds) for name, one in found.items()
        )


FILTERS: dict[str, tuple[Way, dict[str, int]]] = {
    "6 x 4, keep 2, plain model": (plain(), {"probe_steps": 4, "keep": 2}),
    "6 x 4, keep 2, reuse 6/4": (reuse(6, 4), {"probe_steps": 4, "keep": 2}),
    "6 x 4, keep 1, reuse 9/1 skip 0.01": (reuse(9, 1, skip_steps=0.01), {"probe_steps": 4, "keep": 1}),
    "6 x 4, keep 1, reuse 14/1 skip 0.02": (reuse(14, 1, skip_steps=0.02), {"probe_steps": 4, "keep": 1}),
    "6 x 3, keep 1, reuse 9/1 skip 0.01": (reuse(9, 1, skip_steps=0.01), {"probe_steps": 3, "keep": 1}),
    "6 x 3, keep 1, reuse 14/1 skip 0.02": (reuse(14, 1, skip_steps=0.02), {"probe_steps": 3, "keep": 1}),
}


def filter_of_six(stack: Stack, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Each filter and one plain run in turn, so that a busy machine is busy for both."""
    from icedit.mini.success import verdict

    edits, model, judge = held_out(options.edits), stack.adapted["MoE-LoRA top_k 1"], scene_judge()
    wanted = {name: one for name, one in FILTERS.items() if options.rows.search(f"filter {name}")}
    found = {name: Measured() for name in ("one plain run", *wanted)}
    for edit in edits:
        inputs, judge.edit = inputs_of(stack, edit, "panel"), edit
        for name, measured in found.items():
            meter, begun = Meter(), time.perf_counter()
            with meter.on(model):
                if name in wanted:
                    way, asked = wanted[name]
                    latent = stack.host.call(
                        "EarlyFilterSampler", model=way(stack, model)[0], seed=SEED, vae=stack.vae, judge=judge,
                        instruction=edit.instruction, panel="right half", candidates=6, mode="resume", **asked,
                        **SAMPLER, **inputs,
                    )[0]  # fmt: skip
                else:
                    (latent,) = stack.host.call("KSampler", model=model, seed=SEED, **SAMPLER, **inputs)
            panel = stack.panels(latent)[0]
            measured.seconds.append(time.perf_counter() - begun)
            measured.compute.append(meter.compute)
            measured.evaluations.append(meter.evaluations)
            measured.verdicts.append(verdict(edit, panel))
    seconds = sum(found["one plain run"].seconds)
    yield from (
        {"kind": "filter", "way": name, "edits": len(edits)} | one.row(edits, seconds) for name, one in found.items()
    )


def told(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    known = []
    for row in rows:
        print(json.dumps(row), file=sys.stderr, flush=True)
        known.append(row)
    return known


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", choices=["world", "filter", "step", []])
    parser.add_argument("--edits", type=int, default=240)
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0, 0.5, 0.25, 0.1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=re.compile, default=re.compile(""))
    options = parser.parse_args()
    parts = options.parts or ["world", "filter", "step"]
    load_host_and_pack()
    from support.inprocess import InProcessHost

    random.seed(0)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        host = InProcessHost.start(MODELS, Path(folder), PACK)
        if "step" in parts:
            figures["step"] = step_costs(host, options)
        stack = Stack.load(host) if {"world", "filter"} & {*parts} else None
        if stack and "world" in parts:
            figures["world"] = told(world(stack, options))
        if stack and "filter" in parts:
            figures["filter"] = told(filter_of_six(stack, options))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
