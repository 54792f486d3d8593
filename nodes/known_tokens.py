"""The node that leaves known tokens out of most model calls."""

from comfy_api.latest import io

from ..host import node_notes
from ..host.known_tokens import model as reuse
from ..known_tokens.control import ReuseSettings
from .types import CATEGORY


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
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For the sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, refresh_every, first_steps) -> io.NodeOutput:
        settings = ReuseSettings(refresh_every, first_steps)
        return io.NodeOutput(reuse.reuse_known_tokens(model, settings, node_notes.later(cls)))
