"""The edit workflows: from picture to picture with the ordinary LoRA, the MoE-LoRA or the early filter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .graph import ROOM, TITLE_BAR, TOP, Graph, Node, NodeInfo, Output, Port
from .models import CLIP_L, FLUX_FILL, MOE_LORA, NORMAL_LORA, QWEN3_VL, T5, VAE, ModelFile

EXAMPLE_PICTURE = "example.png"
INSTRUCTION = "make her hair dark green"
STEPS = 28
SEED = 42
TITLE = 40
"""The height of a frame's title."""
COMPARED = (560, 640)
"""The size of the before/after picture."""
BELOW_COMPARED = TOP + COMPARED[1] + ROOM + TITLE_BAR
TITLES = ("1. Models", "2. Your picture and your words", "3. Edit", "4. Result")

MODELS_NOTE = """## Models

| file | folder in `ComfyUI/models` |
| --- | --- |
{rows}

{remark}

**8 to 12 GB of VRAM**: set weight_dtype of *Load Diffusion Model* to `fp8_e4m3fn`, or replace it by *Unet Loader
(GGUF)* of the ComfyUI-GGUF pack, with a GGUF of {model} in `diffusion_models`."""

FILTER_NOTE = """## The early filter

Six seeds are tried for four steps, a judge looks at the previews, the best two go on, the best one is finished: about
52 steps in place of 6 x 28. The sampler shows every candidate, the winner on green.

**Reuse Known Tokens** makes this faster. With its `refresh_every` at 9, `first_steps` at 1 and `skip_steps` at 0.01,
and `keep` at 1 here, six candidates and the winner take less than one plain edit; each differs more from its plain one.

**You like another one better?** Click it to see it large, then use **Pin a candidate's seed** above it: from then on
that seed alone is run, to its end. Unpin it in the same place.

Without a judge connected only broken edits are sorted out. To judge by meaning, load [{name}]({url}) (folder
`text_encoders`) with **Load CLIP**, type left at `stable_diffusion`, into **Edit Judge: Vision-Language Model**, or
take **Edit Judge: Server** for Ollama, llama.cpp or LM Studio, and connect it to `judge`."""

FAST_NOTE = """## Faster

**Reuse Known Tokens** leaves out what need not be computed: in most steps the left panel and, where you paint a
`region`, all outside it; and whole steps whose result can be foretold. After a run the node says what was left out.

Set `skip_steps` to 0 to compute every step, and `refresh_every` to 1 to compute everything, as without the node. Higher
values of both are faster, and differ more from the plain edit."""

USE_NOTE = """## How to use

1. Choose your picture in **Create Diptych**.
2. Write **one plain command** in **Edit Instruction**. The sentence that ICEdit was trained with is added for you.
3. Run. The result is saved. Drag the slider to compare: it needs *Nodes 2.0*, a switch in ComfyUI's own menu.

**Examples** in Edit Instruction has one command of each kind to start from.

**Decode Right Half** puts only what changed onto your picture at its own size. Set `restore` to `panel` to see what the
model made.

Not the edit you wanted? Change the **seed** first: results differ a lot from seed to seed. Then try other words."""


def icedit(info: NodeInfo) -> Graph:
    """FLUX.1-Fill with the ordinary ICEdit LoRA."""
    graph = Graph("icedit", info)
    model = flux(graph, FLUX_FILL)
    lora = graph.add(
        "LoraLoaderModelOnly",
        graph.below(20),
        (330, 100),
        values={"model": model, "lora_name": NORMAL_LORA["name"], "strength_model": 1.0},
        models=[NORMAL_LORA],
    )
    _edit(graph, lora["MODEL"], ksampler)
    _notes(graph, NORMAL_LORA)
    return graph


def icedit_moe(info: NodeInfo) -> Graph:
    """FLUX.1-Fill with ICEdit's mixture of LoRA experts."""
    graph = Graph("icedit_moe", info)
    _edit(graph, moe_lora(graph), ksampler)
    _notes(graph, MOE_LORA)
    return graph


def icedit_fast(info: NodeInfo) -> Graph:
    """The mixture of LoRA experts, where most steps compute only what can change."""
    graph = Graph("icedit_fast", info)
    _edit(graph, reusing(graph, moe_lora(graph)), ksampler)
    _notes(graph, MOE_LORA)
    graph.note(graph.below(-480), (440, 260), "Faster", FAST_NOTE)
    return graph


def icedit_early_filter(info: NodeInfo) -> Graph:
    """The mixture of LoRA experts, sampled with the early filter."""
    graph = Graph("icedit_early_filter", info)
    _edit(graph, reusing(graph, moe_lora(graph)), _early_filter)
    _notes(graph, MOE_LORA)
    graph.note(graph.below(-480), (440, 430), "Early filter", FILTER_NOTE.format(**QWEN3_VL))
    return graph


def flux(graph: Graph, model: ModelFile) -> Output:
    """A FLUX model, loaded."""
    values = {"unet_name": model["name"], "weight_dtype": "default"}
    return graph.add("UNETLoader", graph.below(20), (330, 100), values=values, models=[model])["MODEL"]


def moe_lora(graph: Graph) -> Output:
    """FLUX.1-Fill with the mixture of LoRA experts, loaded."""
    model = flux(graph, FLUX_FILL)
    lora = graph.add(
        "MoELoRALoader",
        graph.below(20),
        (330, 200),
        values={
            "model": model,
            "lora_name": MOE_LORA["name"],
            "strength": 1.0,
            "expert_strength": 1.0,
            "top_k": 1,
        },
        models=[MOE_LORA],
    )
    return lora["model"]


def reusing(graph: Graph, model: Output) -> Output:
    """The model with known tokens reused."""
    values = {
        "model": model,
        "refresh_every": 6,
        "first_steps": 4,
        "unchanged": "masked",
        "skip_steps": 0.003,
        "precision": "model",
    }
    return graph.add("ReuseKnownTokens", graph.below(20), (330, 300), values=values)["model"]


Link = Output | Port


@dataclass(frozen=True)
class Models:
    """The loaded models of an edit."""

    model: Link
    clip: Link
    vae: Link


@dataclass(frozen=True)
class Prepared:
    """The inputs of a sampler."""

    model: Link
    positive: Output
    negative: Output
    latent: Output
    vae: Link
    instruction: Output
    layout: Output


def _edit(graph: Graph, model: Output, add_sampler: Callable[[Graph, Prepared], Output]) -> None:
    """Everything from the text encoders to the saved picture."""
    models = loaded(graph, model)
    picture, latent = edit(graph, models, {"image": EXAMPLE_PICTURE}, INSTRUCTION, add_sampler)
    result(graph, models, picture, latent)


def loaded(graph: Graph, model: Output) -> Models:
    """The model with loaders of the text encoders and the VAE."""
    clip = graph.add(
        "DualCLIPLoader",
        graph.below(20),
        (330, 150),
        values={"clip_name1": CLIP_L["name"], "clip_name2": T5["name"], "type": "flux", "device": "default"},
        models=[CLIP_L, T5],
    )
    vae = graph.add("VAELoader", graph.below(20), (330, 70), values={"vae_name": VAE["name"]}, models=[VAE])
    return Models(model, clip["CLIP"], vae["VAE"])


def edit(
    graph: Graph,
    models: Models,
    picture: dict[str, Any],
    instruction: str | Link,
    add_sampler: Callable[[Graph, Prepared], Output],
) -> tuple[Node, Output]:
    """From the picture to the edited latent. `picture` are values of Create Diptych; that node is returned first."""
    diptych = create_diptych(graph, picture)
    text = graph.add(
        "InContextEditInstruction",
        graph.below(420),
        (340, 330),
        values={"editText": instruction, "clip": models.clip, "guidance": 50.0, "template": "ICEdit"},
    )
    return diptych, filled(graph, models, diptych, text, add_sampler)


def create_diptych(graph: Graph, picture: dict[str, Any]) -> Node:
    """Create Diptych with some of its values given."""
    values = {"panel_width": 512, "right_panel": "copy", **picture}
    return graph.add("DiptychCreate", graph.below(420), (340, 510), values=values)


def zeroed(graph: Graph, text: Node) -> Output:
    """The negative conditioning that a sampler asks for and cfg 1 does not use."""
    values = {"conditioning": text["In_context"]}
    return graph.add("ConditioningZeroOut", graph.below(830), (400, 40), values=values)["CONDITIONING"]


def filled(
    graph: Graph, models: Models, diptych: Node, text: Node, add_sampler: Callable[[Graph, Prepared], Output]
) -> Output:
    """The sampled latent: the masked panel is filled, the other one kept."""
    negative = zeroed(graph, text)
    conditioning = graph.add(
        "ICEFConditioning",
        graph.below(830),
        (400, 160),
        values={
            "In_context": text["In_context"],
            "negative": negative,
            "vae": models.vae,
            "diptych": diptych["diptych"],
            "maskDiptych": diptych["maskDiptych"],
            "layout": diptych["layout"],
        },
    )
    prepared = Prepared(
        model=models.model,
        positive=conditioning["In_context"],
        negative=conditioning["negative"],
        latent=conditioning["latent"],
        vae=models.vae,
        instruction=text["instruction"],
        layout=diptych["layout"],
    )
    return add_sampler(graph, prepared)


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


def ksampler(graph: Graph, prepared: Prepared, seed: int | Link = SEED, seed_control: str = "randomize") -> Output:
    """The edited latent from KSampler, which has room for its preview."""
    values = {**_sampling(prepared), "seed": seed}
    return graph.add("KSampler", graph.below(830), (400, 500), values=values, seed_control=seed_control)["LATENT"]


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
        "when_changed": "run afresh",
        "layout": prepared.layout,
    }
    sampler = graph.add("EarlyFilterSampler", graph.below(830), (400, 1000), values=values)
    report(graph, sampler["report"])
    return sampler["latent"]


def restored(graph: Graph, models: Models, picture: Node, latent: Output, restore: str | Port = "blend") -> Node:
    """The latent is decoded and its right panel put back onto the picture."""
    return graph.add(
        "DecodeRightHalf",
        graph.below(1300),
        (400, 300),
        values={
            "samples": latent,
            "vae": models.vae,
            "layout": picture["layout"],
            "original": picture["original_image"],
            "restore": restore,
        },
    )


def result(
    graph: Graph,
    models: Models,
    picture: Node,
    latent: Output,
    restore: str = "blend",
    before: Output | None = None,
) -> None:
    """The edited picture, saved and compared."""
    edited = restored(graph, models, picture, latent, restore)
    saved(graph, picture["original_image"], edited["image"], graph.below(1300), before)


def saved(
    graph: Graph, original: Output, edited: Output, corner: tuple[int, int], before: Output | None = None
) -> None:
    """Save a picture, compare it with its original in the page, and save both in one file through the API.

    In the comparison the newest page shows what the original's node itself shows. Where that is another picture,
    `before` is the original from a node that shows none.
    """
    left, top = corner
    graph.add("SaveImage", corner, (400, 490), values={"images": edited, "filename_prefix": "icedit"})
    graph.add(
        "ImageCompare",
        (left + 440, TOP),
        COMPARED,
        values={"image_a": before or original, "image_b": edited},
        title="Before / after (slider: needs Nodes 2.0)",
        in_api=False,
    )
    both = graph.add(
        "ImageStitch",
        (left, top + 510),
        (240, 150),
        values={
            "image1": original,
            "image2": edited,
            "direction": "right",
            "match_image_size": True,
            "spacing_width": 8,
            "spacing_color": "white",
        },
        in_page=False,
    )
    graph.add(
        "SaveImage",
        (left + 270, top + 510),
        (300, 300),
        values={"images": both["IMAGE"], "filename_prefix": "icedit_before_after"},
        in_page=False,
    )


def report(graph: Graph, text: Output) -> None:
    """A node's report, below the before/after picture."""
    place, size = (1740, BELOW_COMPARED), (COMPARED[0], 340)
    graph.add("PreviewAny", place, size, values={"source": text}, title="Report", in_api=False)


def _frame(graph: Graph, title: str, width: int, left: int, *further: int) -> None:
    """Add a frame around the columns of nodes at `left` and `further`, with its title above the badges of nodes."""
    foot = max(graph.foot(column) for column in (left, *further))
    graph.group(title, (left - 20, -TITLE, width, foot + ROOM + TITLE))


def _notes(graph: Graph, lora: ModelFile) -> None:
    frames(graph)
    graph.note(graph.below(-480), (440, 340), "How to use", USE_NOTE)
    models_note(graph, graph.below(-480), lora)


def frames(graph: Graph, titles: tuple[str, str, str, str] = TITLES) -> None:
    """The four frames of a workflow with one edit on the canvas."""
    models, words, sampling, pictures = titles
    _frame(graph, models, 370, 20)
    _frame(graph, words, 380, 420)
    _frame(graph, sampling, 440, 830)
    _frame(graph, pictures, 1040, 1300, 1740)


def models_note(graph: Graph, position: tuple[int, int], lora: ModelFile) -> None:
    """The files that an edit with a LoRA needs, and where they come from."""
    remark = f"The LoRA downloads as `pytorch_lora_weights.safetensors`: **rename it** to `{lora['name']}`."
    files_note(graph, position, 420, (FLUX_FILL, CLIP_L, T5, VAE, lora), remark, "FLUX.1-Fill")


def files_note(
    graph: Graph, position: tuple[int, int], height: int, files: Sequence[ModelFile], remark: str, model: str
) -> None:
    """A table of files, a remark on them, and what to do when the `model` is too large."""
    rows = "\n".join(f"| [{file['name']}]({file['url']}) | `{file['directory']}` |" for file in files)
    graph.note(position, (440, height), "Models", MODELS_NOTE.format(rows=rows, remark=remark, model=model))
