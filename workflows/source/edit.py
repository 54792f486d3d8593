"""The edit workflows: one chain from picture to picture, with a plain or a routed LoRA."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .graph import Graph, Node, NodeInfo, Output
from .models import CLIP_L, FLUX_FILL, MOE_LORA, NORMAL_LORA, T5, VAE

EXAMPLE_PICTURE = "example.png"
INSTRUCTION = "make her hair dark green"
STEPS = 28
SEED = 42

MODELS_NOTE = """## Models

| file | folder in `ComfyUI/models` |
| --- | --- |
| [{fill}]({fill_url}) | `diffusion_models` |
| [{clip}]({clip_url}) | `text_encoders` |
| [{t5}]({t5_url}) | `text_encoders` |
| [{vae}]({vae_url}) | `vae` |
| [{lora}]({lora_url}) | `loras` |

The LoRA downloads as `pytorch_lora_weights.safetensors`: **rename it** to `{lora}`.

**8 to 12 GB of VRAM**: set weight_dtype of *Load Diffusion Model* to `fp8_e4m3fn`, or load a GGUF of FLUX.1-Fill with
the ComfyUI-GGUF pack in its place."""

FILTER_NOTE = """## The early filter

Six seeds are tried for four steps, a judge looks at the previews, the best two go on, the best one is finished: about
52 steps in place of 6 x 28. The contact sheet on the sampler shows every candidate.

Without a judge connected only broken edits are sorted out. To judge by meaning, add **Edit Judge: Vision-Language
Model** with a Qwen3-VL text encoder, or **Edit Judge: Server** for Ollama, llama.cpp or LM Studio, and
connect it to `judge`."""

USE_NOTE = """## How to use

1. Choose your picture in **Create Diptych**.
2. Write **one plain command** in **Edit Instruction**. The sentence that ICEdit was trained with is added for you.
3. Run. The result is saved; drag the slider to compare.

**Crop Right Half** puts only what changed onto your picture at its own size. Set `restore` to `panel` to see what the
model made.

Not the edit you wanted? Change the **seed** first: results differ a lot from seed to seed. Then try other words."""


def icedit(info: NodeInfo) -> Graph:
    """FLUX.1-Fill with the ordinary ICEdit LoRA."""
    graph = Graph("icedit", info)
    model = _flux_fill(graph)
    lora = graph.add(
        "LoraLoaderModelOnly",
        (20, 220),
        (330, 90),
        values={"model": model["MODEL"], "lora_name": NORMAL_LORA["name"], "strength_model": 1.0},
        models=[NORMAL_LORA],
    )
    _edit(graph, lora["MODEL"], ksampler)
    _notes(graph, NORMAL_LORA)
    return graph


def icedit_moe(info: NodeInfo) -> Graph:
    """FLUX.1-Fill with ICEdit's mixture of LoRA experts."""
    graph = Graph("icedit_moe", info)
    _edit(graph, _moe_lora(graph), ksampler)
    _notes(graph, MOE_LORA)
    return graph


def icedit_early_filter(info: NodeInfo) -> Graph:
    """The mixture of LoRA experts, sampled with the early filter."""
    graph = Graph("icedit_early_filter", info)
    _edit(graph, _moe_lora(graph), _early_filter)
    _notes(graph, MOE_LORA)
    graph.note((-480, 820), (440, 300), "Early filter", FILTER_NOTE)
    return graph


def _flux_fill(graph: Graph) -> Node:
    return graph.add(
        "UNETLoader",
        (20, 60),
        (330, 90),
        values={"unet_name": FLUX_FILL["name"], "weight_dtype": "default"},
        models=[FLUX_FILL],
    )


def _moe_lora(graph: Graph) -> Output:
    model = _flux_fill(graph)
    lora = graph.add(
        "MoELoRALoader",
        (20, 200),
        (330, 150),
        values={
            "model": model["MODEL"],
            "lora_name": MOE_LORA["name"],
            "strength": 1.0,
            "expert_strength": 1.0,
            "top_k": 1,
        },
        models=[MOE_LORA],
    )
    return lora["model"]


@dataclass(frozen=True)
class Prepared:
    """What a sampler needs."""

    model: Output
    positive: Output
    negative: Output
    latent: Output
    vae: Output
    instruction: Output


def _edit(graph: Graph, model: Output, add_sampler: Callable[[Graph, Prepared], Output]) -> None:
    """Everything from the text encoders to the saved picture."""
    clip = graph.add(
        "DualCLIPLoader",
        (20, 420),
        (330, 130),
        values={"clip_name1": CLIP_L["name"], "clip_name2": T5["name"], "type": "flux", "device": "default"},
        models=[CLIP_L, T5],
    )
    vae = graph.add("VAELoader", (20, 620), (330, 60), values={"vae_name": VAE["name"]}, models=[VAE])
    picture = graph.add(
        "DiptychCreate",
        (420, 60),
        (340, 440),
        values={"image": EXAMPLE_PICTURE, "panel_width": 512, "right_panel": "copy"},
    )
    text = graph.add(
        "InContextEditInstruction",
        (420, 560),
        (340, 240),
        values={"editText": INSTRUCTION, "clip": clip["CLIP"], "guidance": 50.0, "template": "ICEdit"},
    )
    negative = graph.add("ConditioningZeroOut", (830, 60), (280, 40), values={"conditioning": text["In_context"]})
    conditioning = graph.add(
        "ICEFConditioning",
        (830, 170),
        (280, 140),
        values={
            "In_context": text["In_context"],
            "negative": negative["CONDITIONING"],
            "vae": vae["VAE"],
            "diptych": picture["diptych"],
            "maskDiptych": picture["maskDiptych"],
        },
    )
    prepared = Prepared(
        model=model,
        positive=conditioning["In_context"],
        negative=conditioning["negative"],
        latent=conditioning["latent"],
        vae=vae["VAE"],
        instruction=text["instruction"],
    )
    add_result(graph, picture, vae, add_sampler(graph, prepared))


def _sampling(prepared: Prepared) -> dict[str, Any]:
    return {
        "model": prepared.model,
        "seed": SEED,
        "steps": STEPS,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "positive": prepared.positive,
        "negative": prepared.negative,
        "latent_image": prepared.latent,
        "denoise": 1.0,
    }


def ksampler(graph: Graph, prepared: Prepared, position: tuple[int, int] = (830, 390)) -> Output:
    """The host's KSampler; its latent."""
    return graph.add("KSampler", position, (280, 480), values=_sampling(prepared))["LATENT"]


def _early_filter(graph: Graph, prepared: Prepared) -> Output:
    values = {
        **_sampling(prepared),
        "vae": prepared.vae,
        "instruction": prepared.instruction,
        "candidates": 6,
        "probe_steps": 4,
        "keep": 2,
        "mode": "resume",
        "panel": "right half",
        "stop_early": False,
    }
    sampler = graph.add("EarlyFilterSampler", (830, 390), (280, 900), values=values)
    graph.add("PreviewAny", (1180, 940), (400, 340), values={"source": sampler["report"]}, title="Report", in_api=False)
    return sampler["latent"]


def add_result(graph: Graph, picture: Node, vae: Node, latent: Output, restore: str = "blend") -> None:
    """From the sampled latent to the saved picture."""
    decoded = graph.add("VAEDecode", (1180, 60), (240, 50), values={"samples": latent, "vae": vae["VAE"]})
    edited = graph.add(
        "CropRightHalf",
        (1180, 180),
        (240, 110),
        values={
            "image": decoded["IMAGE"],
            "layout": picture["layout"],
            "original": picture["original_image"],
            "restore": restore,
        },
    )
    graph.add(
        "SaveImage",
        (1180, 390),
        (400, 480),
        values={"images": edited["image"], "filename_prefix": "icedit"},
    )
    graph.add(
        "ImageCompare",
        (1640, 60),
        (520, 560),
        values={"image_a": picture["original_image"], "image_b": edited["image"]},
        title="Before / after (slider: needs Nodes 2.0)",
        in_api=False,
    )
    both = graph.add(
        "ImageStitch",
        (1180, 900),
        (240, 150),
        values={
            "image1": picture["original_image"],
            "image2": edited["image"],
            "direction": "right",
            "match_image_size": True,
            "spacing_width": 8,
            "spacing_color": "white",
        },
        in_page=False,
    )
    graph.add(
        "SaveImage",
        (1450, 900),
        (300, 300),
        values={"images": both["IMAGE"], "filename_prefix": "icedit_before_after"},
        in_page=False,
    )


def frame_height(graph: Graph, left: int) -> int:
    """What a frame needs to hold the column of nodes at `left`."""
    column = [node for node in graph.nodes if node.position[0] == left and node.in_page]
    return max(node.position[1] + node.size[1] for node in column) + 20


def _notes(graph: Graph, lora: dict[str, str]) -> None:
    graph.group("1. Models", (0, 0, 370, 720))
    graph.group("2. Your picture and your words", (400, 0, 380, 830))
    graph.group("3. Edit", (810, 0, 320, frame_height(graph, 830)))
    graph.group("4. Result", (1160, 0, 1020, frame_height(graph, 1180)))
    graph.note((-480, 60), (440, 260), "How to use", USE_NOTE)
    table = {
        key: value
        for name, model in {"fill": FLUX_FILL, "clip": CLIP_L, "t5": T5, "vae": VAE, "lora": lora}.items()
        for key, value in ((name, model["name"]), (f"{name}_url", model["url"]))
    }
    graph.note((-480, 370), (440, 400), "Models", MODELS_NOTE.format(**table))
