"""Training an adapter on pairs of pictures before and after an edit."""

from .graph import Graph, NodeInfo
from .loaders import files_note, flux, loaded
from .models import CLIP_L, FLUX_FILL, T5, VAE
from .pictures import COMPARED, frames

NAME = "my_edit"
TITLES = ("1. Models", "2. Your pairs", "3. Train", "4. Result")

USE_NOTE = f"""## How to use

1. Put a folder with your pictures **before** the edit and one with the same pictures **after** it into
`ComfyUI/input`, under the same names, as `{NAME}/before/01.png` and `{NAME}/after/01.png`.
2. Beside each edited picture write its instruction into a text file, `{NAME}/after/01.txt`: one plain command, such as
*remove the price tag*. When all pairs show the same edit, write it into `instruction` instead.
3. Name the folders in **Load Edit Pairs**, and the adapter in **Train MoE-LoRA**.
4. Run. Pairs are checked first, and all that is wrong is said at once. It trains for hours on FLUX.1-Fill.
5. The file is in `models/loras`. Press R, and choose it in **Load MoE-LoRA** in the workflow *icedit_moe*.

**How many pairs?** Dozens for one narrow edit, hundreds for one that must find its place in any picture. The help of
*Load Edit Pairs* says how to collect them.

**Stopped?** Run it again with the same settings: it goes on from the last saved state."""

REMARK = "No LoRA is needed: training starts from the bare model. To go on from one, choose it in `start_from`."


def icedit_teach(info: NodeInfo) -> Graph:
    """Pairs are loaded and an adapter is trained on them; its loss and its file's name are shown."""
    graph = Graph("icedit_teach", info)
    models = loaded(graph, flux(graph, FLUX_FILL))
    pairs = graph.add(
        "LoadEditPairs",
        graph.below(420),
        (340, 420),
        values={"sources": f"{NAME}/before", "edited": f"{NAME}/after"},
    )
    training = graph.add(
        "TrainMoELoRA",
        graph.below(830),
        (400, 1300),
        values={
            "model": models.model,
            "clip": models.clip,
            "vae": models.vae,
            "pairs": pairs["pairs"],
            "name": NAME,
        },
        seed_control="fixed",
    )
    graph.add(
        "SaveImage",
        graph.below(1300),
        (400, 490),
        values={"images": training["curve"], "filename_prefix": f"{NAME}_loss"},
    )
    for title, source, height in (
        ("The file, in models/loras", training["lora_name"], 120),
        ("The pairs", pairs["report"], 240),
        ("The training", training["report"], 340),
    ):
        graph.add("PreviewAny", graph.below(1740), (COMPARED[0], height), values={"source": source}, title=title)
    frames(graph, TITLES)
    graph.note(graph.below(-480), (440, 560), "How to use", USE_NOTE)
    files_note(graph, graph.below(-480), 380, (FLUX_FILL, CLIP_L, T5, VAE), REMARK, "FLUX.1-Fill")
    return graph
