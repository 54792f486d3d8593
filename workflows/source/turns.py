"""Several edits in a row. A turn is a subgraph, which is one node on the canvas."""

from functools import partial

from .graph import ROOM, TOP, Graph, NodeInfo, Port, Subgraph
from .loaders import Models, loaded, models_note, moe_lora
from .models import MOE_LORA
from .pictures import COMPARED, TITLE, restored, saved
from .sampling import EXAMPLE_PICTURE, SEED, edit, ksampler

TURN = "Image Edit Turn (ICEdit)"
INSTRUCTIONS = ("make her hair dark green", "give her round glasses", "make the background a sunny beach")
HUNDRED = 100
"""Ids inside turn n start with n * 100 + 1."""

DESCRIPTION = (
    "One edit of a picture with ICEdit: connect FLUX.1-Fill with an ICEdit LoRA, its text encoders, its VAE and a "
    "picture, and say what should change. The picture comes back at its own size, and what the edit did not touch "
    "keeps its very pixels. Put one behind the other for several edits in a row."
)

USE_NOTE = """## How to use

1. Choose your picture in **Load Image**.
2. Write **one plain command** in each turn. Every turn edits what the turn before it made.
3. Run. The last turn's picture is saved, each turn's is shown below it.

**Not the picture you wanted?** Look for the first turn that went wrong and change its `seed` or its words. The turns
before it are not run again: seeds stay as they are until you change them.

**What no turn touched is still your picture's own pixels**, because `restore` is `blend`. To say where a turn may
paint, connect a mask to its `region`. To say it in words, put **Region by Words** from the node library before it.

More turns: copy one, connect it behind the last. Fewer: remove one or bypass it. The symbol in a turn's corner opens
what is inside: steps, guidance, panels for wide pictures.

A turn for your own workflows is in the node library: search for **Image Edit Turn**."""


def turn(info: NodeInfo, number: int = 1) -> Subgraph:
    """One edit from picture to picture.

    Every turn of a workflow has its own subgraph: in pages of ComfyUI 0.16 all nodes of one subgraph share their texts.
    """
    subgraph = Subgraph(
        TURN,
        info,
        first_id=HUNDRED * number + 1,
        ports=("model", "clip", "vae", "image", "region", "instruction", "seed", "restore"),
        description=DESCRIPTION,
        search_aliases=("ICEdit", "in-context edit", "multi-turn edit", "edit again"),
    )
    models = Models(Port("model"), Port("clip"), Port("vae"))
    # The seed is fixed so that a good turn is not run again.
    sampler = partial(ksampler, seed=Port("seed"), seed_control="fixed")
    source = {"image": "None", "image_input": Port("image"), "region": Port("region")}
    picture, latent = edit(subgraph, models, source, Port("instruction"), sampler)
    edited = restored(subgraph, models, picture, latent, Port("restore"))
    subgraph.outputs = {"image": edited["image"], "changed": edited["changed"]}
    return subgraph


def icedit_multi_turn(info: NodeInfo) -> Graph:
    """Three turns with the mixture of LoRA experts."""
    graph = Graph("icedit_multi_turn", info)
    models = loaded(graph, moe_lora(graph))
    models_end = graph.foot(20) + ROOM
    source = graph.add("LoadImage", (20, models_end + 130), (330, 380), values={"image": EXAMPLE_PICTURE})
    image, turns = source["IMAGE"], []
    for number, instruction in enumerate(INSTRUCTIONS, 1):
        values = {
            "model": models.model,
            "clip": models.clip,
            "vae": models.vae,
            "image": image,
            "instruction": instruction,
            "seed": SEED + number - 1,
            "restore": "blend",
        }
        place = (420 + 380 * (number - 1), TOP)
        node = graph.place(turn(info, number), place, (340, 380), title=f"Turn {number}", values=values)
        turns.append(node)
        image = node["image"]
    for node in turns:
        graph.add(
            "PreviewImage", graph.below(node.position[0]), (340, 380), values={"images": node["image"]}, in_api=False
        )
    saved(graph, source["IMAGE"], image, (1600, TOP))
    graph.group("1. Models", (0, -TITLE, 370, models_end + TITLE))
    graph.group("2. Your picture", (0, models_end + 30, 370, 100 + 380 + ROOM))
    graph.group("3. Turns", (400, -TITLE, 1140, graph.foot(420) + ROOM + TITLE))
    graph.group("4. Result", (1580, -TITLE, 1040, TOP + COMPARED[1] + ROOM + TITLE))
    graph.note(graph.below(-480), (440, 400), "How to use", USE_NOTE)
    models_note(graph, graph.below(-480), MOE_LORA)
    return graph


def turn_blueprint(info: NodeInfo) -> Graph:
    """The turn for the page's node library."""
    graph = Graph(TURN, info)
    graph.place(
        turn(info), (0, 0), (340, 420), values={"instruction": INSTRUCTIONS[0], "seed": SEED, "restore": "blend"}
    )
    return graph
