"""The inputs and outputs that both samplers with the Early Filter have."""

from typing import get_args

from comfy_api.latest import io

from ..early_filter.picks import Choose
from ..early_filter.plan import Mode, WhenChanged
from ..early_filter.stored_preview import Panel
from .types import Judge as JudgePort
from .types import Layout

SEED = (
    "Seed of the first candidate; the others count on from it. The output seed tells which one won: KSampler with that "
    "seed gives the same result, bit for bit, while the model is loaded in the same way (see when_changed). In a batch "
    "every picture gets a winner of its own: what KSampler gives for it, taken out with Latent From Batch."
)


def filter_inputs() -> list[io.Input]:
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
            tooltip="Judge each candidate as soon as it is probed, and stop at the first one that passes all checks or "
            "reaches pass_score: easy edits take one or two candidates. Needs a judge that makes checks, or a "
            "pass_score. Saves steps, but loads sampler and judge in turns. Mode paper does not use it.",
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
        io.Float.Input(
            "pass_score",
            default=0.0,
            min=0.0,
            max=1000.0,
            step=0.01,
            optional=True,
            tooltip="For stop_early: a candidate with at least this score is good enough, on your judge's own scale, "
            "which the previews show. 0: only checks count.",
        ),
        io.Combo.Input(
            "choose",
            options=list(get_args(Choose)),
            default="judge",
            optional=True,
            tooltip="judge: the judge chooses, in one run. me: the first run stops when all candidates are probed, and "
            "shows them. Click one and run again: only that one is finished, from the step where it stopped. No judge "
            "is asked.",
        ),
        io.String.Input(
            "picked",
            default="",
            optional=True,
            tooltip="For choose me: the seed to finish, or #2 for the second candidate; in a batch one for each "
            "picture, with commas between. A click on a candidate writes it. Empty: show the candidates.",
        ),
    ]


def filter_outputs() -> list[io.Output]:
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
