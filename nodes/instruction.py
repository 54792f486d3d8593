"""Nodes that turn the instruction and the diptych into conditioning."""

from comfy_api.latest import io

from ..diptych.image import checked_image
from ..diptych.prompt import TEMPLATES, edit_prompt
from ..host import conditioning, node_notes
from .types import CATEGORY, Layout

TRAINED_GUIDANCE = 50.0


class InContextEditInstruction(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InContextEditInstruction",
            display_name="Edit Instruction (ICEdit)",
            category=CATEGORY,
            description="Puts your instruction into the sentence that ICEdit was trained with and encodes it.",
            search_aliases=["ICEdit", "edit instruction", "image edit"],
            inputs=[
                io.String.Input(
                    "editText",
                    multiline=True,
                    dynamic_prompts=True,
                    placeholder="make her hair dark green",
                    tooltip="What should change, as a plain English command. The sentence around it is added for you.",
                ),
                io.Clip.Input("clip", tooltip="clip_l and t5xxl, from DualCLIPLoader with type flux."),
                io.Float.Input(
                    "guidance",
                    default=TRAINED_GUIDANCE,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    optional=True,
                    tooltip="FLUX guidance. ICEdit uses 50, text-to-image FLUX.1-dev 3.5. 0 leaves it to a "
                    "FluxGuidance node after this one.",
                ),
                io.Combo.Input(
                    "template",
                    options=list(TEMPLATES),
                    default="ICEdit",
                    optional=True,
                    tooltip="ICEdit: the trained sentence around your text. none: your text alone. text-to-image: for "
                    "FLUX.1-dev without ICEdit's LoRA; uses description.",
                ),
                io.String.Input(
                    "description",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="What your picture shows, such as: a woman with brown hair in front of a brick wall. For "
                    "the template text-to-image only.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("In_context", tooltip="The encoded prompt with its guidance."),
                io.String.Output("prompt", tooltip="The whole prompt, as the text encoders see it."),
                io.String.Output("instruction", tooltip="Your text alone, for nodes that judge the edit."),
            ],
        )

    @classmethod
    def execute(cls, editText, clip, guidance=TRAINED_GUIDANCE, template="ICEdit", description="") -> io.NodeOutput:
        prompt = edit_prompt(editText, template, description)
        return io.NodeOutput(conditioning.encode_prompt(clip, prompt, guidance), prompt, editText.strip())


class ICEFConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ICEFConditioning",
            display_name="Diptych Conditioning (ICEdit)",
            category=CATEGORY,
            description="Shows FLUX.1-Fill the diptych and its mask, and makes the latent to sample.",
            search_aliases=["ICEdit", "inpaint conditioning"],
            inputs=[
                io.Conditioning.Input("In_context", tooltip="From Edit Instruction."),
                io.Conditioning.Input(
                    "negative", tooltip="Not used at cfg 1. Zero Out the positive conditioning to have one."
                ),
                io.Vae.Input("vae", tooltip="The FLUX VAE, ae.safetensors."),
                io.Image.Input("diptych", tooltip="From Create Diptych."),
                io.Mask.Input("maskDiptych", tooltip="From Create Diptych."),
                Layout.Input(
                    "layout",
                    optional=True,
                    tooltip="From Create Diptych. Needed with fit tiles only: all tiles of a picture then start from "
                    "the same noise, as if each had been run alone with the same seed.",
                ),
            ],
            outputs=[
                # Without ids, which may not be the same as an input's; users see the display names.
                io.Conditioning.Output(
                    display_name="In_context", tooltip="For the sampler's positive; it carries diptych and mask."
                ),
                io.Conditioning.Output(display_name="negative", tooltip="For the sampler's negative."),
                io.Latent.Output(
                    display_name="latent", tooltip="For the sampler's latent_image: the diptych with its mask."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, In_context, negative, vae, diptych, maskDiptych, layout=None) -> io.NodeOutput:
        image = checked_image(diptych, "diptych")
        rows = None if layout is None or layout.tiles == 1 else layout.noise_rows
        outputs = conditioning.inpaint_conditioning(In_context, negative, vae, image, maskDiptych, rows)
        node_notes.show(cls, conditioning.mask_notes(maskDiptych))
        return io.NodeOutput(*outputs)
