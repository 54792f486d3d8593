"""Several instructions and seeds in one run."""

from functools import partial

from .graph import TOP, Graph, NodeInfo
from .loaders import loaded, models_note, moe_lora
from .models import MOE_LORA
from .pictures import frames, restored
from .sampling import EXAMPLE_PICTURE, edit, ksampler
from .turns import INSTRUCTIONS

SEEDS = 3
FIRST_SEED = 42

USE_NOTE = """## How to use

1. Choose your picture in **Create Diptych**.
2. Write **one plain command in each line** of **Edit Variations**, and say how many seeds each is tried with.
3. Run. Every instruction is run with every seed: 3 instructions with 3 seeds are 9 edits, and take as long as 9.

**You like one?** *Pin a cell* on **Edit Grid** leaves only that one to be run. Unpin it in the same place.

**To edit it further**, press *Next source* on **Decode Right Half**: that edit becomes Create Diptych's picture. The
pictures and words before it are kept: the same button leads back to them.

All edits at full size are shown below. Only the grid is saved."""


def icedit_grid(info: NodeInfo) -> Graph:
    """The mixture of LoRA experts with several instructions and seeds."""
    graph = Graph("icedit_grid", info)
    models = loaded(graph, moe_lora(graph))
    variations = graph.add(
        "EditVariations",
        graph.below(420),
        (340, 260),
        values={"instructions": "\n".join(INSTRUCTIONS), "seed": FIRST_SEED, "seeds": SEEDS},
        seed_control="fixed",
    )
    sampler = partial(ksampler, seed=variations["seed"], seed_control="fixed")
    picture, latent = edit(graph, models, {"image": EXAMPLE_PICTURE}, variations["instruction"], sampler)
    edited = restored(graph, models, picture, latent)
    graph.add("PreviewImage", graph.below(1300), (400, 490), values={"images": edited["image"]}, in_api=False)
    grid = graph.add(
        "EditGrid",
        (1740, TOP),
        (560, 700),
        values={
            "images": edited["image"],
            "instruction": variations["instruction"],
            "seed": variations["seed"],
            "cell_width": 384,
        },
    )
    graph.add(
        "SaveImage",
        graph.below(1740),
        (560, 490),
        values={"images": grid["grid"], "filename_prefix": "icedit_grid"},
    )
    frames(graph, ("1. Models", "2. Your picture and your words", "3. Edits", "4. Results"))
    graph.note(graph.below(-480), (440, 460), "How to use", USE_NOTE)
    models_note(graph, graph.below(-480), MOE_LORA)
    return graph
