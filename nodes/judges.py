"""Nodes that say who chooses between the candidates of the Early Filter samplers."""

from comfy_api.latest import io

from ..early_filter.judges.api_key import HOSTS_VARIABLE, KEY_VARIABLE
from ..early_filter.judges.clip import CLIPJudge
from ..early_filter.judges.endpoint import Endpoint
from ..early_filter.judges.pixels import PixelJudge
from ..early_filter.judges.styles import PICTURES, Style, cost_note, styled_judge
from ..host import node_notes
from ..host.judges import clip, lora, text_generation
from ..host.judges.wording import wording_text
from .judge_inputs import checks_input, style_inputs, swap_order_input, wording_fingerprint
from .types import JUDGES_CATEGORY, Judge

NO_MODEL = "None found in models/clip_vision"
SEPARATE, ONE_PICTURE = "separate", "one picture"
JUDGE_TOOLTIP = "For the judge input of the Early Filter samplers."


def _weight_input(term: str, default: float, meaning: str) -> io.Input:
    return io.Float.Input(
        f"{term}_weight",
        default=default,
        min=0.0,
        max=10.0,
        step=0.05,
        tooltip=f"Weight of {meaning}. 0 leaves it out.",
    )


class EditJudgePixels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EditJudgePixels",
            display_name="Edit Judge: Pixels, Sorts Out Broken Edits (ICEdit)",
            category=JUDGES_CATEGORY,
            description="Sorts out broken edits without a model, in milliseconds: nothing changed, left panel lost, "
            "flat, NaN, another picture. It ranks the others by how well they keep what was not to change, which does "
            "not find the better of two sound edits: it does not know what you asked for. A wrong edit in the right "
            "place passes, and edits of the whole picture (style, season, background) are only compared by how much "
            "they change. This is what the samplers use when no judge is connected.",
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
            category=JUDGES_CATEGORY,
            description="Lets a vision-language model that ComfyUI runs itself look at your picture beside the edits "
            "and choose. " + text_generation.WHICH_MODELS + " The paper used a 72B model; small ones misjudge often, "
            "which is what checks and swap_order are for.",
            search_aliases=["ICEdit", "early filter", "VLM", "Qwen3-VL", "Gemma"],
            inputs=[
                io.Clip.Input("clip", tooltip=text_generation.WHICH_MODELS),
                checks_input(),
                swap_order_input(),
                *style_inputs(),
                io.Combo.Input(
                    "lora_name",
                    options=[lora.NO_LORA, *lora.lora_names()],
                    default=lora.NO_LORA,
                    optional=True,
                    tooltip="The LoRA that makes a judge of Qwen3-VL, such as EditScore or PVC-Judge: "
                    "adapter_model.safetensors in a folder of its own in models/loras, with its adapter_config.json.",
                ),
            ],
            outputs=[Judge.Output("judge", tooltip=JUDGE_TOOLTIP)],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, clip, checks, swap_order, style: Style = "general", votes=1, wording="", lora_name=lora.NO_LORA
    ) -> io.NodeOutput:
        text_generation.check_can_see_and_answer(clip, PICTURES[style])
        if lora_name != lora.NO_LORA:
            clip = lora.with_lora(clip, lora_name)

        def ask(requests, poll):
            return text_generation.answers(clip, requests, poll)

        title = f"vision-language model {text_generation.model_name(clip)}"
        judge = styled_judge(style, title, ask, checks, swap_order, votes, wording_text(wording))
        node_notes.show(cls, [cost_note(judge)])
        return io.NodeOutput(judge)

    @classmethod
    def fingerprint_inputs(cls, wording="", **_) -> str:
        return wording_fingerprint(wording)


class EditJudgeEndpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EditJudgeEndpoint",
            display_name="Edit Judge: Server (ICEdit)",
            category=JUDGES_CATEGORY,
            description="Lets a vision-language model on a server of yours look at your picture beside the edits and "
            "choose: Ollama, llama.cpp, vLLM, LM Studio or any other with the OpenAI chat interface. Your picture and "
            "the previews are sent to that server, and only while judging. A server that is not on this machine has "
            f"to be named in the environment variable {HOSTS_VARIABLE}, because workflows may come from anyone; one "
            f"that wants a key gets it from {KEY_VARIABLE}.",
            search_aliases=["ICEdit", "early filter", "Ollama", "OpenAI", "vLLM", "LM Studio", "llama.cpp"],
            inputs=[
                io.String.Input(
                    "base_url",
                    default="http://localhost:11434/v1",
                    tooltip="Address of the server up to /v1. Ollama: http://localhost:11434/v1, LM Studio: port 1234, "
                    "llama.cpp: 8080, vLLM: 8000. Never write a key here: it would be saved in your pictures.",
                ),
                io.String.Input(
                    "model",
                    default="",
                    placeholder="qwen2.5vl:7b",
                    tooltip="The model's name as the server lists it. It must see pictures.",
                ),
                checks_input(),
                swap_order_input(),
                io.Int.Input(
                    "timeout",
                    default=120,
                    min=1,
                    max=3600,
                    optional=True,
                    tooltip="Seconds to wait for one answer. The first may take long while the server loads the model.",
                ),
                io.Int.Input(
                    "parallel",
                    default=2,
                    min=1,
                    max=32,
                    optional=True,
                    tooltip="Questions asked at the same time. 1 for a server that shares the GPU with ComfyUI.",
                ),
                io.Combo.Input(
                    "pictures",
                    options=[SEPARATE, ONE_PICTURE],
                    default=SEPARATE,
                    optional=True,
                    tooltip="one picture: source and edits side by side with labels, for models that take only one.",
                ),
                *style_inputs(),
            ],
            outputs=[Judge.Output("judge", tooltip=JUDGE_TOOLTIP)],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, base_url, model, checks, swap_order, timeout=120, parallel=2, pictures=SEPARATE,
        style: Style = "general", votes=1, wording="",
    ) -> io.NodeOutput:  # fmt: skip
        endpoint = Endpoint(base_url, model, timeout=timeout, parallel=parallel, one_picture=pictures == ONE_PICTURE)
        title = f"{endpoint.model} at {endpoint.url}"
        judge = styled_judge(style, title, endpoint.ask, checks, swap_order, votes, wording_text(wording))
        node_notes.show(cls, [cost_note(judge)])
        return io.NodeOutput(judge)

    @classmethod
    def fingerprint_inputs(cls, wording="", **_) -> str:
        return wording_fingerprint(wording)


class EditJudgeCLIP(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EditJudgeCLIP",
            display_name="Edit Judge: CLIP (ICEdit)",
            category=JUDGES_CATEGORY,
            description="Scores edits with a CLIP or SigLIP model in the transformers format (a folder with "
            "config.json and model.safetensors in models/clip_vision). Quick, but CLIP hardly understands commands: "
            "in ICEdit's paper choosing by agreement with the text alone was worse than no filter at all (0.65 "
            "against 0.68, with a 72B vision-language model 0.78). So keep source and direction above 0, and prefer a "
            "vision-language model where you can run one.",
            search_aliases=["ICEdit", "early filter", "CLIP score", "SigLIP"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=clip.model_names() or [NO_MODEL],
                    tooltip="A folder in models/clip_vision or models/text_encoders with config.json, "
                    "model.safetensors, tokenizer and preprocessor_config.json. Nothing is downloaded.",
                ),
                _weight_input("text", 1.0, "how well the edit agrees with your words (cosine, usually 0.1 to 0.35)"),
                _weight_input("source", 0.5, "how much the edit looks like your picture (cosine, usually 0.6 to 1)"),
                _weight_input(
                    "direction",
                    0.5,
                    "whether the change goes where your instruction points (cosine of edit minus source with "
                    "instruction minus 'a photo', usually -0.1 to 0.3)",
                ),
            ],
            outputs=[Judge.Output("judge", tooltip=JUDGE_TOOLTIP)],
        )

    @classmethod
    def execute(cls, model_name, text_weight, source_weight, direction_weight) -> io.NodeOutput:
        encoder = clip.encoder(model_name)
        return io.NodeOutput(CLIPJudge(encoder, text_weight, source_weight, direction_weight, f"CLIP {model_name}"))
