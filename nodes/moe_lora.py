"""The loader of ICEdit's LoRA with routed experts."""

from comfy_api.latest import io

from ..host.moe_lora import files
from ..host.moe_lora.apply import Strengths, apply_adapter, routed_bytes
from ..moe_lora.report import adapter_report
from .types import CATEGORY

MAX_STRENGTH = 100.0
MAX_TOP_K = 64
AS_TRAINED = 0
"""For top_k: what the file says, and 1 where it says nothing, as ICEdit's."""


class MoELoRALoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MoELoRALoader",
            display_name="Load MoE-LoRA (ICEdit)",
            category=CATEGORY,
            description="Puts the paper's best checkpoint, a LoRA with routed experts, on FLUX.1-Fill. ComfyUI's own "
            "loader drops the experts. Ordinary LoRA files work too.",
            search_aliases=["ICEdit", "MoE", "mixture of experts", "lora loader", "load lora"],
            inputs=[
                io.Model.Input("model", tooltip="FLUX.1-Fill, in any precision. It is left as it is."),
                io.Combo.Input(
                    "lora_name",
                    options=files.adapter_names(),
                    tooltip="A safetensors file in models/loras, for example pytorch_lora_weights.safetensors of "
                    "sanaka87/ICEdit-MoE-LoRA under a name of your choice.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-MAX_STRENGTH,
                    max=MAX_STRENGTH,
                    step=0.01,
                    tooltip="Strength of the whole adapter. 1 is as trained, 0 is the bare model.",
                ),
                io.Float.Input(
                    "expert_strength",
                    default=1.0,
                    min=-MAX_STRENGTH,
                    max=MAX_STRENGTH,
                    step=0.01,
                    optional=True,
                    tooltip="Strength of the experts alone, multiplied by strength. 0 leaves the ordinary LoRA layers.",
                ),
                io.Int.Input(
                    "top_k",
                    default=AS_TRAINED,
                    min=AS_TRAINED,
                    max=MAX_TOP_K,
                    optional=True,
                    tooltip="How many experts work on each token. 0: as the file was trained; ICEdit's, which does not "
                    "say, with 1.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model with the adapter on it."),
                io.String.Output(
                    display_name="report", tooltip="What was applied: layers, experts, memory, strengths."
                ),
            ],
        )

    @classmethod
    def execute(cls, model, lora_name, strength, expert_strength=1.0, top_k=AS_TRAINED) -> io.NodeOutput:
        held = files.held_adapter(lora_name)
        if top_k == AS_TRAINED:
            top_k = held.adapter.top_k or 1
        patched = apply_adapter(model, held, Strengths(strength, expert_strength, top_k))
        memory = routed_bytes(model, patched)
        return io.NodeOutput(patched, adapter_report(held.adapter, lora_name, strength, expert_strength, top_k, memory))

    @classmethod
    def fingerprint_inputs(cls, lora_name, **_) -> str:
        return files.fingerprint(lora_name)
