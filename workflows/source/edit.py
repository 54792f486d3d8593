"""The edit workflows: from picture to picture with the ordinary LoRA, the MoE-LoRA or the early filter."""

from collections.abc import Callable

from .graph import Graph, NodeInfo, Output
from .loaders import flux, loaded, models_note, moe_lora, reusing
from .models import FLUX_FILL, MOE_LORA, NORMAL_LORA, QWEN3_VL, ModelFile
from .pictures import frames, report, result
from .sampling import EXAMPLE_PICTURE, INSTRUCTION, Prepared, edit, ksampler, sampler_values

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


def _edit(graph: Graph, model: Output, add_sampler: Callable[[Graph, Prepared], Output]) -> None:
    """Everything from the text encoders to the saved picture."""
    models = loaded(graph, model)
    picture, latent = edit(graph, models, {"image": EXAMPLE_PICTURE}, INSTRUCTION, add_sampler)
    result(graph, models, picture, latent)


def _early_filter(graph: Graph, prepared: Prepared) -> Output:
    values = {
        **sampler_values(prepared),
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


def _notes(graph: Graph, lora: ModelFile) -> None:
    frames(graph)
    graph.note(graph.below(-480), (440, 340), "How to use", USE_NOTE)
    models_note(graph, graph.below(-480), lora)
