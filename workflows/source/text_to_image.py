"""The training-free workflows: a text-to-image FLUX without any LoRA, in its simple form and with inversion."""

from typing import Any

from .graph import Graph, Node, NodeInfo, Output
from .loaders import Models, files_note, flux, loaded
from .models import CLIP_L, FLUX_DEV, T5, VAE
from .pictures import frames, report, result
from .sampling import EXAMPLE_PICTURE, INSTRUCTION, STEPS, Prepared, create_diptych, filled, ksampler, zeroed

DESCRIPTION = "a woman with brown hair in front of a brick wall"
GUIDANCE = 3.5
RESTORE = "resize"
"""Without training no part of the right panel is exactly as in the left one, so `blend` has nothing to keep."""

REMARK = "This is the ordinary text-to-image FLUX.1-dev; neither FLUX.1-Fill nor a LoRA is needed."

SIMPLE_NOTE = """## Editing without training, the simple form

Plain FLUX.1-dev paints the right panel while the left one is kept. It was never trained for this: expect clearly weaker
edits than with the ICEdit LoRA (workflow *icedit*).

1. Choose your picture in **Create Diptych**.
2. In **Edit Instruction** say in `description` what it shows, and in the text above what should change.
3. Run. Not the edit you wanted? Change the **seed** first."""

INVERSION_NOTE = """## Editing without training, with inversion

**In-Context Inversion** finds the noise from which FLUX.1-dev paints your picture and records attention values on the
way. The sampler paints your picture from that noise into the left panel, and the edit from fresh noise into the right
one.

1. Choose your picture in **Create Diptych**.
2. Say in **What the picture shows** what it shows, and in **Edit Instruction** what should change.
3. `steps`, `scheduler` and `denoise` are the same in **In-Context Inversion** and in the sampler; the sampler is euler.
4. Run. Another seed or instruction does not invert again.

In place of KSampler you can use **KSampler with Early Filter**: its candidates differ in the right panel only. The kept
values take 1.9 GB of RAM for a 512 x 512 panel."""


def icedit_text_to_image(info: NodeInfo) -> Graph:
    """FLUX.1-dev paints the right panel; a noise mask keeps the left one."""
    graph = Graph("icedit_text_to_image", info)
    models, picture = _start(graph)
    text = _instruction(graph, models, DESCRIPTION)
    result(graph, models, picture, filled(graph, models, picture, text, ksampler), RESTORE)
    _frames(graph, SIMPLE_NOTE)
    return graph


def icedit_inversion(info: NodeInfo) -> Graph:
    """FLUX.1-dev paints both panels, the left one from the source's inverted noise with its attention values."""
    graph = Graph("icedit_inversion", info)
    models, picture = _start(graph)
    shows = graph.add(
        "PrimitiveStringMultiline",
        graph.below(420),
        (340, 120),
        values={"value": DESCRIPTION},
        title="What the picture shows",
    )
    text = _instruction(graph, models, shows["STRING"])
    source = graph.add(
        "CLIPTextEncode", graph.below(420), (340, 110), values={"clip": models.clip, "text": shows["STRING"]}
    )
    inversion = graph.add(
        "InContextInversion",
        graph.below(830),
        (400, 420),
        values={
            "model": models.model,
            "source_prompt": source["CONDITIONING"],
            "vae": models.vae,
            "diptych": picture["diptych"],
            "steps": STEPS,
            "scheduler": "simple",
            "denoise": 1.0,
        },
    )
    negative = zeroed(graph, text)
    prepared = Prepared(
        model=inversion["model"],
        positive=text["In_context"],
        negative=negative,
        latent=inversion["latent"],
        vae=models.vae,
        instruction=text["instruction"],
        layout=picture["layout"],
    )
    result(graph, models, picture, ksampler(graph, prepared), RESTORE)
    report(graph, inversion["report"])
    _frames(graph, INVERSION_NOTE)
    return graph


def _start(graph: Graph) -> tuple[Models, Node]:
    """The loaded models and the diptych node."""
    model = flux(graph, FLUX_DEV)
    picture = create_diptych(graph, {"image": EXAMPLE_PICTURE})
    return loaded(graph, model), picture


def _instruction(graph: Graph, models: Models, description: str | Output) -> Node:
    values: dict[str, Any] = {
        "editText": INSTRUCTION,
        "clip": models.clip,
        "guidance": GUIDANCE,
        "template": "text-to-image",
        "description": description,
    }
    return graph.add("InContextEditInstruction", graph.below(420), (340, 330), values=values)


def _frames(graph: Graph, note: str) -> None:
    frames(graph)
    graph.note(graph.below(-480), (440, 420), "How to use", note)
    files_note(graph, graph.below(-480), 340, (FLUX_DEV, CLIP_L, T5, VAE), REMARK, "FLUX.1-dev")
