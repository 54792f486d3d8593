"""Nodes that say who chooses between the candidates of the Early Filter samplers."""

from comfy_api.latest import io

from ..early_filter.judges.pixels import PixelJudge
from .types import CATEGORY, Judge

JUDGE_TOOLTIP = "For the judge input of the Early Filter samplers."


class EditJudgePixels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EditJudgePixels",
            display_name="Edit Judge: Pixels (ICEdit)",
            category=CATEGORY,
            description="Judges edits without a model, in milliseconds: refuses previews that are broken (nothing "
            "changed, left panel lost, flat, NaN, another picture) and ranks the others by how well they keep what "
            "was not to change. It does not know what you asked for: a wrong edit in the right place passes, and "
            "edits of the whole picture (style, season, background) are only compared by how much they change. "
            "This is what the samplers use when no judge is connected.",
            search_aliases=["ICEdit", "early filter", "no model"],
            inputs=[],
            outputs=[Judge.Output("judge", tooltip=JUDGE_TOOLTIP)],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(PixelJudge())
