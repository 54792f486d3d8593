"""What the experts of a MoE-LoRA do, and a LoRA without experts for programs that cannot route."""

from typing import get_args

import torch
from comfy_api.latest import io, ui

from ..host import sampling
from ..host.expert_usage.flat_file import FlatSettings, write_flat_file
from ..host.expert_usage.observe import observable, observed_run
from ..host.moe_lora import files
from ..training.flatten import Weights
from ..training.usage_picture import usage_picture
from ..training.usage_report import usage_report
from .sampling_inputs import MAX_SEED, sampler_and_scheduler
from .types import CATEGORY, Usage

MAX_RANK = 4096


class ExpertUsage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ExpertUsage",
            display_name="KSampler with Expert Usage (ICEdit)",
            category=CATEGORY,
            description="Runs an edit as KSampler does and shows which expert of the MoE-LoRA worked where: per layer, "
            "over the picture and over the steps. Tells whether the file's router has learned anything.",
            search_aliases=["ICEdit", "MoE", "mixture of experts", "router", "KSampler"],
            inputs=[
                io.Model.Input("model", tooltip="From Load MoE-LoRA, with a file that has experts."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="KSampler's. The same seed gives the same latent as there.",
                ),
                io.Int.Input("steps", default=28, min=1, max=10000, tooltip="As in KSampler."),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="As in KSampler. 1 for ICEdit. Above 1 only what positive makes of the picture is watched.",
                ),
                *sampler_and_scheduler(),
                io.Conditioning.Input("positive", tooltip="The edit, from Diptych Conditioning."),
                io.Conditioning.Input("negative", tooltip="As in KSampler. Not used at cfg 1."),
                io.Latent.Input(
                    "latent_image", tooltip="The diptych, from Diptych Conditioning. Of a batch all pictures count."
                ),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="As in KSampler. 1 for ICEdit."
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="Connected: the picture shows the edit too, below its maps."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="Maps over the diptych and bars, a colour an expert."),
                io.String.Output(
                    display_name="report", tooltip="Shares, evenness and what the experts depend on, layer by layer."
                ),
                Usage.Output(display_name="usage", tooltip="What was measured, for Flatten MoE-LoRA."),
                io.Latent.Output(display_name="latent", tooltip="The edit, as from KSampler."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise, vae=None
    ) -> io.NodeOutput:
        watched = observable(model)
        process = sampling.ksampler_process(watched, steps, cfg, sampler_name, scheduler, positive, negative, denoise)
        usage, latent = observed_run(process, latent_image, seed)
        decoded = None if vae is None else vae.decode(latent["samples"][:1])[0, ..., :3]
        drawn = [usage_picture(adapter, usage.steps, decoded) for adapter in usage.adapters]
        picture = torch.cat(drawn)[None]
        report = usage_report(usage)
        return io.NodeOutput(picture, report, usage, latent, ui=ui.PreviewImage(picture, cls=cls))


class FlattenMoELoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FlattenMoELoRA",
            display_name="Flatten MoE-LoRA (ICEdit)",
            category=CATEGORY,
            description="Writes an ordinary LoRA in place of a MoE-LoRA, for programs that cannot route, such as "
            "Nunchaku. It loads everywhere and does less: the report says how much is lost.",
            search_aliases=["ICEdit", "MoE", "average experts", "Nunchaku", "convert lora", "save lora"],
            inputs=[
                io.Combo.Input(
                    "lora_name", options=files.adapter_names(), tooltip="A MoE-LoRA in models/loras. It stays as it is."
                ),
                io.Combo.Input(
                    "weights",
                    options=list(get_args(Weights)),
                    default="equal",
                    tooltip="equal: the average of the experts. measured: each by how much it worked in the usage. "
                    "fitted: the nearest to what the routed layers did in the usage.",
                ),
                io.Int.Input(
                    "rank",
                    default=0,
                    min=0,
                    max=MAX_RANK,
                    tooltip="Of each layer that had experts. 0 keeps all: the experts' ranks added up. Less makes "
                    "smaller files and loses a little more.",
                ),
                Usage.Input(
                    "usage",
                    optional=True,
                    tooltip="From KSampler with Expert Usage, with the same file. measured and fitted need it; with "
                    "equal it makes the report exact.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="lora_name", tooltip="The new file's name in models/loras."),
                io.String.Output(display_name="report", tooltip="What was written, and what it loses against routing."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, lora_name, weights, rank, usage=None) -> io.NodeOutput:
        adapter = files.held_adapter(lora_name).adapter
        return io.NodeOutput(*write_flat_file(lora_name, adapter, FlatSettings(weights, rank, usage)))

    @classmethod
    def fingerprint_inputs(cls, lora_name, **_) -> str:
        return files.fingerprint(lora_name)
