"""The node that leaves known tokens out of most model calls."""

from comfy_api.latest import io

from ..host import node_notes
from ..host.known_tokens import model as reuse
from ..known_tokens.control import ReuseSettings, Unchanged
from .types import CATEGORY

AS_MODEL = "model"


class ReuseKnownTokens(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ReuseKnownTokens",
            display_name="Reuse Known Tokens (ICEdit)",
            category=CATEGORY,
            description="Makes FLUX.1-Fill faster: what the noise mask keeps, such as the left panel of a diptych and "
            "all outside a region, is computed in some steps only. Put it between loader and sampler.",
            search_aliases=["ICEdit", "cache", "speed", "faster", "region", "KV cache", "RegionE"],
            inputs=[
                io.Model.Input("model", tooltip="A FLUX.1: Fill, Kontext, or another one with a noise mask."),
                io.Int.Input(
                    "refresh_every",
                    default=6,
                    min=1,
                    max=10000,
                    tooltip="Every so many steps everything is computed. 1 computes everything in every step, as "
                    "without this node; more is faster and less exact.",
                ),
                io.Int.Input(
                    "first_steps",
                    default=4,
                    min=1,
                    max=10000,
                    tooltip="So many steps at the beginning, where most changes, are computed in full.",
                ),
                io.Combo.Input(
                    "unchanged",
                    options=[choice.value for choice in Unchanged],
                    default=Unchanged.MASKED.value,
                    tooltip="What is known: what the noise mask keeps, or also what the edit turns out not to touch, "
                    "found after the first steps. That then comes out as in the source.",
                ),
                io.Float.Input(
                    "skip_steps",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    optional=True,
                    tooltip="Leaves whole steps out where the result can be foretold, up to this error. 0 leaves none "
                    "out, 0.003 changes little, 0.01 is faster.",
                ),
                io.Combo.Input(
                    "precision",
                    options=[AS_MODEL, "8 bit"],
                    default=AS_MODEL,
                    optional=True,
                    tooltip="In what precision known tokens are kept: the model's, or 8 bit in half the memory.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For the sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, refresh_every, first_steps, unchanged, skip_steps=0.0, precision=AS_MODEL) -> io.NodeOutput:
        settings = ReuseSettings(refresh_every, first_steps, Unchanged(unchanged), skip_steps, precision != AS_MODEL)
        return io.NodeOutput(reuse.reuse_known_tokens(model, settings, node_notes.later(cls)))
