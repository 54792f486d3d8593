"""Several pictures of different sizes in one run, as a list: the host runs each node once for each picture."""

from .graph import ROOM, Graph, NodeInfo
from .loaders import loaded, models_note, moe_lora
from .models import MOE_LORA
from .pictures import frames, result
from .sampling import EXAMPLE_PICTURE, INSTRUCTION, edit, ksampler

PICTURES = 3
PICTURES_TOP = -600

USE_NOTE = """## How to use

1. Choose your pictures in **Load Image**. They may have different sizes.
2. Write **one plain command** in **Edit Instruction**: it is for all of them.
3. Run. Each picture is edited by itself, with the same seed, and saved at its own size.

**More pictures**: add a Load Image and connect it to **Create List**, up to ten.

**A whole folder**: put it into `ComfyUI/input`, and connect **Load Image (from Folder)** to `image_input` in place of
Create List. Older ComfyUIs call it *Load Image Dataset from Folder*.

Pictures of one size may also come as one batch: they are sampled together, which is faster and needs more memory."""


def icedit_mixed_sizes(info: NodeInfo) -> Graph:
    """The mixture of LoRA experts on a list of pictures."""
    graph = Graph("icedit_mixed_sizes", info)
    models = loaded(graph, moe_lora(graph))
    loaders = [
        graph.add("LoadImage", (20 + 380 * number, PICTURES_TOP), (330, 380), values={"image": EXAMPLE_PICTURE})
        for number in range(PICTURES)
    ]
    pictures = graph.add(
        "CreateList",
        (20 + 380 * PICTURES, PICTURES_TOP),
        (240, 120),
        values={f"inputs.input{number}": loader["IMAGE"] for number, loader in enumerate(loaders)},
    )
    source = {"image": "None", "image_input": pictures["list"]}
    result(graph, models, *edit(graph, models, source, INSTRUCTION, ksampler), before=pictures["list"])
    graph.group("1. Your pictures", (0, PICTURES_TOP - 100, 1440, 100 + 380 + ROOM))
    frames(graph, ("2. Models", "3. Your words", "4. Edit", "5. Result"))
    graph.note((-480, PICTURES_TOP), (440, 400), "How to use", USE_NOTE)
    models_note(graph, graph.below(-480, PICTURES_TOP), MOE_LORA)
    return graph
