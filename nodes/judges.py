"""Nodes that say who chooses between the candidates of the Early Filter samplers."""

from comfy_api.latest import io

from ..early_filter.judges.pictures import compose
from ..early_filter.judges.pixels import PixelJudge
from ..early_filter.judges.vlm import VLMJudge
from ..host import text_generation
from .types import CATEGORY, Judge

JUDGE_TOOLTIP = "For the judge input of the Early Filter samplers."


def _checks_input() -> io.Input:
    return io.Boolean.Input(
        "checks",
        default=True,
        tooltip="First ask up to five yes/no questions about your instruction and count each edit's yes; compare "
        "edits in pairs only where the count is the same. Off: compare in pairs only.",
    )


def _swap_order_input() -> io.Input:
    return io.Boolean.Input(
        "swap_order",
        default=True,
        tooltip="Ask every comparison a second time with the edits swapped, and call it a tie when the answers "
        "disagree. Models, small ones above all, prefer whichever edit comes first or last.",
    )


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


class EditJudgeVLM(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EditJudgeVLM",
            display_name="Edit Judge: Vision-Language Model (ICEdit)",
            category=CATEGORY,
            description="Lets a vision-language model that ComfyUI runs itself look at your picture beside the edits "
            "and choose. " + text_generation.WHICH_MODELS + " The paper used a 72B model; small ones misjudge often, "
            "which is what checks and swap_order are for.",
            search_aliases=["ICEdit", "early filter", "VLM", "Qwen3-VL", "Gemma"],
            inputs=[
                io.Clip.Input("clip", tooltip=text_generation.WHICH_MODELS),
                _checks_input(),
                _swap_order_input(),
            ],
            outputs=[Judge.Output("judge", tooltip=JUDGE_TOOLTIP)],
        )

    @classmethod
    def execute(cls, clip, checks, swap_order) -> io.NodeOutput:
        text_generation.check_can_see_and_answer(clip)

        def ask(requests, poll):
            questions = [(request.text, compose(request.pictures)) for request in requests]
            return text_generation.answers(clip, questions, poll)

        title = f"vision-language model {text_generation.model_name(clip)}"
        return io.NodeOutput(VLMJudge(title, ask, checks, swap_order))
