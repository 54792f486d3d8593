"""The node that inverts a source picture for training-free editing with a text-to-image FLUX."""

from comfy_api.latest import io

from ..diptych.image import checked_image
from ..host import node_notes, sampling
from ..host.inversion import invert, model_check
from .types import CATEGORY


class InContextInversion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InContextInversion",
            display_name="In-Context Inversion (ICEdit)",
            category=CATEGORY,
            description="Edits without ICEdit's training: finds the noise from which a text-to-image FLUX paints your "
            "picture, and gives model and latent to any sampler, which then paints your picture into the left panel "
            "of the diptych and the edit into the right one.",
            search_aliases=["ICEdit", "inversion", "training-free", "RF inversion", "text to image", "FLUX.1-dev"],
            inputs=[
                io.Model.Input("model", tooltip="A text-to-image FLUX.1, such as FLUX.1-dev. No FLUX.1-Fill."),
                io.Conditioning.Input(
                    "source_prompt",
                    tooltip="What your picture shows, as one sentence without the instruction, from CLIP Text Encode.",
                ),
                io.Vae.Input("vae", tooltip="The FLUX VAE, ae.safetensors."),
                io.Image.Input("diptych", tooltip="From Create Diptych. Its left panel is inverted."),
                io.Int.Input("steps", default=28, min=1, max=10000, tooltip="The same as in the sampler."),
                io.Combo.Input(
                    "scheduler",
                    options=sampling.scheduler_names(),
                    default="simple",
                    tooltip="The same as in the sampler, whose sampler_name should be euler.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="The same as in the sampler. Below 1 the right panel starts from what it holds.",
                ),
                *_inversion_inputs(),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="For graphs with SamplerCustomAdvanced: its sigmas, in place of steps, scheduler, denoise.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For the sampler. Works for this picture's latent only."),
                io.Latent.Output(display_name="latent", tooltip="The diptych, for the sampler."),
                io.String.Output(display_name="report", tooltip="JSON: reconstruction error, what is held, seconds."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model, source_prompt, vae, diptych, steps, scheduler, denoise, sigmas=None, **settings
    ) -> io.NodeOutput:
        model_check.check_model(model)
        node_notes.show(cls, model_check.inversion_cautions(model))
        image = checked_image(diptych, "diptych")
        schedule = invert.schedule_of(model, steps, scheduler, denoise, sigmas)
        chosen = invert.Settings(**settings)
        return io.NodeOutput(*invert.invert_sources(model, source_prompt, vae, image, schedule, chosen))


def _inversion_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "inversion_guidance",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="FLUX guidance while inverting. 1 stays nearest to the picture. 0 leaves that of source_prompt.",
        ),
        io.Int.Input(
            "corrections",
            default=0,
            min=0,
            max=20,
            tooltip="At most so many evaluations correct each step of the inversion. 0 is the plain inversion; each "
            "costs up to as many evaluations of one panel as there are steps.",
        ),
        io.Float.Input(
            "step_share",
            default=0.57,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="In which share of the steps, from the first on, the left panel gets your picture's attention "
            "values. More ties it closer to your picture. 0 switches this off.",
        ),
        io.Float.Input(
            "block_share",
            default=0.33,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="In which share of the model's blocks, counted from the last one, it gets them. 0.33 of FLUX.1 are "
            "the last 19 of 57. 0 switches this off.",
        ),
        io.Float.Input(
            "memory_limit",
            default=4.0,
            min=0.1,
            max=1024.0,
            step=0.1,
            tooltip="GB of RAM that the kept values may take; more is refused before any work is done. The defaults "
            "take 1.9 GB for a 512 x 512 panel. It counts a whole batch, but of a list each picture on its own. They "
            "stay until ComfyUI drops the result.",
        ),
        io.Boolean.Input(
            "check",
            default=True,
            tooltip="Sample your picture back from the noise that was found, and report how far it is off. Costs "
            "`steps` evaluations of one panel.",
        ),
    ]
