"""Samplers that try many seeds for a few steps, let a judge choose, and finish the best."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..diptych.geometry import DiptychLayout
from ..early_filter.captions import RankedPreview, ranked_previews
from ..early_filter.judge import Judge
from ..early_filter.judges.pixels import PixelJudge
from ..early_filter.notes import notes
from ..early_filter.picks import Choose
from ..early_filter.plan import Mode, Plan, StopEarly, WhenChanged
from ..early_filter.report import filter_report
from ..early_filter.stored_preview import Panel
from ..host import node_notes, sampling
from ..host.early_filter.filter import FilterSettings, filter_cautions, filter_latent
from ..host.early_filter.pick import PickSettings
from ..host.upstream import running_call, upstream_digest
from .early_filter_pick import NOT_CHOSEN_AMONG, finished_pick
from .early_filter_ports import SEED, filter_inputs, filter_outputs
from .sampling_inputs import MAX_SEED, sampler_and_scheduler
from .types import CATEGORY


class EarlyFilterSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EarlyFilterSampler",
            display_name="KSampler with Early Filter (ICEdit)",
            category=CATEGORY,
            description="Tries many seeds for a few steps, lets a judge choose, and finishes the best one. Takes "
            "KSampler's place.",
            search_aliases=["ICEdit", "early filter", "best of n", "seed search", "KSampler"],
            inputs=[
                io.Model.Input("model", tooltip="The model that edits."),
                io.Int.Input("seed", default=0, min=0, max=MAX_SEED, control_after_generate=True, tooltip=SEED),
                io.Int.Input("steps", default=28, min=1, max=10000, tooltip="Steps of the whole schedule."),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Classifier-free guidance. 1 for ICEdit and other FLUX models.",
                ),
                *sampler_and_scheduler(),
                io.Conditioning.Input("positive", tooltip="What the picture should show."),
                io.Conditioning.Input("negative", tooltip="What it should not show. Not used at cfg 1."),
                io.Latent.Input(
                    "latent_image", tooltip="The latent to denoise. Its mask tells the judge what may change."
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of the latent is replaced, as in KSampler.",
                ),
                *filter_inputs(),
            ],
            outputs=filter_outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise, **settings
    ) -> io.NodeOutput:
        def process(steps: int) -> sampling.Process:
            return sampling.ksampler_process(model, steps, cfg, sampler_name, scheduler, positive, negative, denoise)

        made_of = (model, steps, cfg, sampler_name, scheduler, positive, negative, denoise)
        return _filtered(cls, process(steps), process, made_of, seed, latent_image, **settings)


class EarlyFilterSamplerAdvanced(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EarlyFilterSamplerAdvanced",
            display_name="Custom Sampler with Early Filter (ICEdit)",
            category=CATEGORY,
            description="Tries many seeds for a few steps, lets a judge choose, and finishes the best one. Takes the "
            "place of SamplerCustomAdvanced and its RandomNoise.",
            search_aliases=["ICEdit", "early filter", "best of n", "seed search", "SamplerCustomAdvanced"],
            inputs=[
                io.Guider.Input("guider", tooltip="Model and conditioning, from BasicGuider, CFGGuider or another."),
                io.Sampler.Input("sampler", tooltip="Any but dpm_fast and dpm_adaptive: they choose their own steps."),
                io.Sigmas.Input(
                    "sigmas",
                    tooltip="The whole schedule. Mode paper picks its short one evenly from these.",
                ),
                io.Latent.Input(
                    "latent_image", tooltip="The latent to denoise. Its mask tells the judge what may change."
                ),
                io.Int.Input("seed", default=0, min=0, max=MAX_SEED, control_after_generate=True, tooltip=SEED),
                *filter_inputs(),
            ],
            outputs=filter_outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, guider, sampler, sigmas, latent_image, seed, **settings) -> io.NodeOutput:
        process = sampling.custom_process(guider, sampler, sigmas)
        return _filtered(cls, process, process.shortened, (guider, sampler, sigmas), seed, latent_image, **settings)


def _filtered(
    cls: type[io.ComfyNode],
    process: sampling.Process,
    shortened: Callable[[int], sampling.Process],
    made_of: Sequence[Any],
    seed: int,
    latent: dict[str, Any],
    *,
    vae: Any,
    instruction: str,
    candidates: int,
    probe_steps: int,
    keep: int,
    mode: Mode,
    panel: Panel,
    judge: Judge | None = None,
    source: Tensor | None = None,
    stop_early: bool = False,
    when_changed: WhenChanged = "run afresh",
    layout: DiptychLayout | None = None,
    pass_score: float = 0.0,
    choose: Choose = "judge",
    picked: str = "",
) -> io.NodeOutput:
    start = time.perf_counter()
    plan = Plan(mode, seed, candidates, probe_steps, keep, process.steps)
    short = shortened(probe_steps) if mode == "paper" else None
    afresh, tiles = when_changed == "run afresh", layout and layout.tiles
    if choose == "me":
        owner, digest = running_call(), upstream_digest(NOT_CHOSEN_AMONG)
        asked = PickSettings(plan, process, short, vae, panel, afresh, tiles, picked, digest, owner, made_of)
        return finished_pick(cls, asked, latent, start)
    judges = (PixelJudge(),) if judge is None else (judge, PixelJudge())
    stop = StopEarly(pass_score) if stop_early else None
    settings = FilterSettings(plan, process, short, vae, instruction, panel, judges, stop, source, afresh, tiles)
    result, outcomes = filter_latent(settings, latent)
    node_notes.show(cls, filter_cautions(plan, process, latent) + notes(outcomes, judges))
    ranked = ranked_previews(outcomes)
    previews = torch.stack([preview.picture for preview in ranked])
    text = filter_report(outcomes, time.perf_counter() - start)
    return io.NodeOutput(result, previews, outcomes[0].winner, text, ui=_shown(cls, ranked))


def _shown(cls: type[io.ComfyNode], ranked: Sequence[RankedPreview]) -> dict[str, Any]:
    """The captioned previews, and for web/pin_candidate.js and the command line the candidate of each."""
    captioned = torch.stack([preview.captioned() for preview in ranked])
    # As text: the page's numbers hold integers up to 2^53 only.
    candidates = [{"seed": str(one.seed), "lines": one.lines, "score": one.score} for one in ranked]
    return {**ui.PreviewImage(captioned, cls=cls).as_dict(), "icedit_candidates": candidates}
