"""Samplers that try many seeds for a few steps, let a judge choose, and finish the best."""

import time
from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..diptych.geometry import DiptychLayout
from ..early_filter.captions import RankedPreview, ranked_previews
from ..early_filter.judge import Judge
from ..early_filter.judges.pixels import PixelJudge
from ..early_filter.notes import notes
from ..early_filter.plan import SEEDS, Mode, Plan, WhenChanged
from ..early_filter.report import filter_report
from ..early_filter.stored_preview import Panel
from ..host import node_notes, sampling
from ..host.early_filter.filter import FilterSettings, filter_cautions, filter_latent
from .sampling_inputs import sampler_and_scheduler
from .types import CATEGORY, Layout
from .types import Judge as JudgePort

MAX_SEED = SEEDS - 1
SEED = (
    "Seed of the first candidate; the others count on from it. The output seed tells which one won: KSampler with that "
    "seed gives the same result, bit for bit, while the model is loaded in the same way (see when_changed). In a batch "
    "every picture gets a winner of its own: what KSampler gives for it, taken out with Latent From Batch."
)


def _filter_inputs() -> list[io.Input]:
    return [
        io.Vae.Input("vae", tooltip="Decodes the previews that are judged."),
        io.String.Input(
            "instruction",
            multiline=True,
            tooltip="What should change, for the judge. Connect the output instruction of Edit Instruction.",
        ),
        io.Int.Input("candidates", default=6, min=1, max=64, tooltip="How many seeds are tried."),
        io.Int.Input(
            "probe_steps",
            default=4,
            min=1,
            max=1000,
            tooltip="Steps before a candidate is judged. More steps show more of the edit and cost more.",
        ),
        io.Int.Input(
            "keep",
            default=2,
            min=1,
            max=64,
            tooltip="How many candidates are kept for a second look after twice as many steps. 1: judge only once. "
            "Some edits show late, so 2 is safer. More than candidates means all. Mode paper does not use it.",
        ),
        io.Combo.Input(
            "mode",
            options=list(get_args(Mode)),
            default="resume",
            tooltip="resume: look into the real schedule and go on from there; nothing is computed twice but one "
            "evaluation for each look, to see whether the model is still the same. paper: run every candidate through "
            "a short schedule of its own, then the winner from its start.",
        ),
        io.Combo.Input(
            "panel",
            options=list(get_args(Panel)),
            default="right half",
            tooltip="Where the edit is: right half for ICEdit's diptychs, whole picture for other edit models.",
        ),
        JudgePort.Input(
            "judge",
            optional=True,
            tooltip="Who chooses. Not connected: a judge without a model that looks for broken edits and for changes "
            "outside the region.",
        ),
        io.Image.Input(
            "source",
            optional=True,
            tooltip="The picture before the edit. Needed for whole picture; for right half it is taken from the left "
            "half of latent_image.",
        ),
        io.Boolean.Input(
            "stop_early",
            default=False,
            optional=True,
            tooltip="Judge each candidate as soon as it is probed, and stop at the first one that passes all checks. "
            "Needs a judge that makes checks. Saves steps, but loads sampler and judge in turns. Mode paper does not "
            "use it.",
        ),
        io.Combo.Input(
            "when_changed",
            options=list(get_args(WhenChanged)),
            default="run afresh",
            optional=True,
            tooltip="A judge takes memory, and a LoRA on a model that ComfyUI then loads in another way is computed "
            "with other rounding. The sampler finds it out by asking the model again. run afresh: the winner is run "
            "again from its first step and is what KSampler gives. resume: it goes on and differs a little. Mode paper "
            "does not use it.",
        ),
        Layout.Input(
            "layout",
            optional=True,
            tooltip="From Create Diptych, for fit tiles: the tiles of one picture are judged side by side as one "
            "picture, and get one seed. Not connected: the layout at Diptych Conditioning decides.",
        ),
    ]


def _outputs() -> list[io.Output]:
    return [
        io.Latent.Output(display_name="latent", tooltip="The winner, finished."),
        io.Image.Output(
            display_name="previews",
            tooltip="All candidates' previews, best first; of a batch those of each picture in turn. Rank, seed and "
            "score are written on the node's pictures only.",
        ),
        io.Int.Output(display_name="seed", tooltip="The winner's seed; of a batch the first picture's."),
        io.String.Output(display_name="report", tooltip="JSON: all verdicts, reasons, evaluations and seconds."),
    ]


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
                *_filter_inputs(),
            ],
            outputs=_outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise, **settings
    ) -> io.NodeOutput:
        def process(steps: int) -> sampling.Process:
            return sampling.ksampler_process(model, steps, cfg, sampler_name, scheduler, positive, negative, denoise)

        return _filtered(cls, process(steps), process, seed, latent_image, **settings)


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
                *_filter_inputs(),
            ],
            outputs=_outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, guider, sampler, sigmas, latent_image, seed, **settings) -> io.NodeOutput:
        process = sampling.custom_process(guider, sampler, sigmas)
        return _filtered(cls, process, process.shortened, seed, latent_image, **settings)


def _filtered(
    cls: type[io.ComfyNode],
    process: sampling.Process,
    shortened: Callable[[int], sampling.Process],
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
) -> io.NodeOutput:
    start = time.perf_counter()
    plan = Plan(mode, seed, candidates, probe_steps, keep, process.steps)
    short = shortened(probe_steps) if mode == "paper" else None
    judges = (PixelJudge(),) if judge is None else (judge, PixelJudge())
    afresh, tiles = when_changed == "run afresh", layout and layout.tiles
    settings = FilterSettings(plan, process, short, vae, instruction, panel, judges, stop_early, source, afresh, tiles)
    result, outcomes = filter_latent(settings, latent)
    node_notes.show(cls, filter_cautions(settings, latent) + notes(outcomes, judges))
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
