"""The node that trains an adapter on pairs."""

from dataclasses import fields

from comfy_api.latest import io

from ..host.moe_lora.files import adapter_names, fingerprint
from ..host.training.folders import AdapterName
from ..host.training.run import RunOptions, Training, TrainingModels
from ..host.training.start import NO_FILE
from ..training.settings import (
    ADAMW,
    ADAPTERS,
    COSINE,
    LEARNED,
    LOGIT_NORMAL,
    MOE,
    OPTIMIZERS,
    ROUTERS,
    SCHEDULES,
    TIMES,
    TrainingSettings,
)  # fmt: skip
from .types import CATEGORY, LoraName, Pairs

OPTIONS = {field.name for field in fields(RunOptions)}


class TrainMoELoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrainMoELoRA",
            display_name="Train MoE-LoRA (ICEdit)",
            category=CATEGORY,
            description="Teaches FLUX.1-Fill your own kind of edit from pairs of pictures, as the paper taught ICEdit, "
            "and writes the adapter into models/loras.",
            search_aliases=["ICEdit", "train lora", "finetune", "teach", "mixture of experts"],
            inputs=[*_what_to_learn(), *_how_to_learn(), *_while_it_runs(), *_which_noise_and_which_mean()],
            outputs=[
                LoraName.Output("lora_name", tooltip="The file's name, for Load MoE-LoRA (ICEdit)."),
                io.Image.Output("curve", tooltip="The loss of all steps, and samples where they were asked for."),
                io.String.Output("report", tooltip="What was trained, how long it took, what it needed."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model, clip, vae, pairs, name, **inputs) -> io.NodeOutput:
        options = RunOptions(**{name: inputs.pop(name) for name in tuple(inputs) if name in OPTIONS})
        result = Training(
            TrainingModels(model, clip, vae), pairs, AdapterName(name), TrainingSettings(**inputs), options
        ).run()
        # As a text: the host counts everything else among a job's pictures.
        shown = {} if result.shared is None else {"icedit_trained": [str(result.shared)]}
        return io.NodeOutput(result.lora_name, result.picture, result.report, ui=shown)

    @classmethod
    def fingerprint_inputs(cls, start_from=NO_FILE, **_) -> str:
        return start_from if start_from == NO_FILE else fingerprint(start_from)


def _what_to_learn() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="FLUX.1-Fill, in bf16, fp8 or as GGUF. It is left as it is."),
        io.Clip.Input("clip", tooltip="clip_l and t5xxl, from DualCLIPLoader with type flux."),
        io.Vae.Input("vae", tooltip="The FLUX VAE, ae.safetensors."),
        Pairs.Input("pairs", tooltip="From Load Edit Pairs."),
        io.String.Input(
            "name",
            default="my_edit",
            tooltip="The file to write into models/loras. An earlier result of a training under this name is replaced.",
        ),
        io.Int.Input("steps", default=1000, min=1, max=1_000_000, tooltip="How many times the adapter is improved."),
        io.Float.Input(
            "learning_rate",
            default=1e-4,
            min=1e-7,
            max=10.0,
            step=1e-6,
            tooltip="How far each step goes. AdamW: 0.0001; Prodigy finds its own, so 1.",
        ),
        io.Combo.Input("optimizer", options=list(OPTIMIZERS), default=ADAMW, tooltip="Prodigy needs prodigyopt."),
        io.Combo.Input(
            "schedule",
            options=list(SCHEDULES),
            default=COSINE,
            tooltip="How the learning rate changes. cosine and linear fall to 0; constant can go on later.",
        ),
        io.Int.Input("rank", default=32, min=1, max=512, tooltip="Size of the adapter's matrices. ICEdit's is 32."),
        io.Int.Input("experts", default=4, min=1, max=64, tooltip="Experts in each routed layer. ICEdit has 4."),
        io.Int.Input("top_k", default=1, min=1, max=64, tooltip="How many experts work on each token. ICEdit's is 1."),
        io.Combo.Input(
            "adapter",
            options=list(ADAPTERS),
            default=MOE,
            tooltip="MoE: with routed experts. ordinary: a LoRA that any loader reads.",
        ),
        io.Int.Input("batch_size", default=1, min=1, max=256, tooltip="Pairs computed together, which takes memory."),
        io.Int.Input(
            "accumulate",
            default=1,
            min=1,
            max=256,
            tooltip="Batches for each step: as one batch of all their pairs, without its memory.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            # The page would choose another seed after each run, and a stopped training could not be gone on with.
            control_after_generate=io.ControlAfterGenerate.fixed,
            tooltip="Start of the adapter, order of the pairs, noise. The same seed gives the same file.",
        ),
    ]


def _how_to_learn() -> list[io.Input]:
    return [
        io.Float.Input(
            "caption_dropout",
            default=0.1,
            min=0.0,
            max=0.95,
            step=0.01,
            optional=True,
            tooltip="Share of the pairs that are learned without words.",
        ),
        io.Float.Input(
            "right_panel_weight",
            default=1.0,
            min=0.01,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="Share of the loss measured on the right panel. 1: on it alone; 0.5: on both alike.",
        ),
        io.Float.Input(
            "changed_weight",
            default=5.0,
            min=0.1,
            max=100.0,
            step=0.1,
            optional=True,
            tooltip="How much more places count that the edit changes. 1: all count the same.",
        ),
        io.Float.Input(
            "balance",
            default=0.01,
            min=0.0,
            max=10.0,
            step=0.001,
            optional=True,
            tooltip="How strongly all experts are kept in use. 0: not at all, as published.",
        ),
        io.Combo.Input(
            "router",
            options=list(ROUTERS),
            default=LEARNED,
            optional=True,
            tooltip="learned: it gets a gradient. as published: with top_k 1 it stays at its random start.",
        ),
        io.Boolean.Input(
            "checkpointing",
            default=True,
            optional=True,
            tooltip="Computes each block again in the backward pass: far less memory, more time.",
        ),
        io.Combo.Input(
            "start_from",
            options=[NO_FILE, *adapter_names()],
            default=NO_FILE,
            optional=True,
            tooltip="A file to go on from, such as ICEdit's. More experts than it has are copies of its own.",
        ),
        io.Float.Input(
            "guidance",
            default=50.0,
            min=0.0,
            max=100.0,
            step=0.1,
            optional=True,
            tooltip="FLUX guidance while training. As you will edit with: 50 for ICEdit.",
        ),
        io.Float.Input(
            "shift",
            default=1.15,
            min=0.0,
            max=10.0,
            step=0.01,
            optional=True,
            tooltip="How far the noise levels move towards noise, as ModelSamplingFlux's max_shift.",
        ),
    ]


def _while_it_runs() -> list[io.Input]:
    return [
        io.Int.Input(
            "save_every",
            default=200,
            min=1,
            max=100_000,
            optional=True,
            tooltip="Steps between two saved states. After a crash the same run goes on from the last.",
        ),
        io.Int.Input(
            "keep_states", default=2, min=1, max=100, optional=True, tooltip="How many of the last states are kept."
        ),
        io.Int.Input(
            "sample_every",
            default=100,
            min=0,
            max=100_000,
            optional=True,
            tooltip="Steps between two looks at held-out pairs, shown on the node. 0: none.",
        ),
    ]


def _which_noise_and_which_mean() -> list[io.Input]:
    return [
        io.Combo.Input(
            "times",
            options=list(TIMES),
            default=LOGIT_NORMAL,
            optional=True,
            tooltip="Which noise levels are learned. logit-normal: most in the middle. uniform: also where the layout "
            "is decided, for edits that move or add things.",
        ),
        io.Float.Input(
            "average",
            default=0.0,
            min=0.0,
            max=0.9999,
            step=0.0001,
            optional=True,
            tooltip="Running mean of the adapter, which is what comes out (EMA). 0.995: of about the last 200 steps. "
            "0: none.",
        ),
    ]
