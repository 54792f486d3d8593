"""An edit of a place that is named in words."""

from .graph import Graph, NodeInfo, Port, Subgraph
from .loaders import files_note, loaded, moe_lora
from .models import CLIP_L, FLUX_FILL, MOE_LORA, SAM3, T5, VAE
from .pictures import frames, result
from .sampling import EXAMPLE_PICTURE, INSTRUCTION, edit, ksampler

REGION_BY_WORDS = "Region by Words (ICEdit)"
FIRST_ID = 1001
"""Of the nodes inside: larger than those of any turn beside it."""
WHERE = "hair"

DESCRIPTION = (
    "Finds in a picture what you name in words, with SAM 3, and makes of it the region that an edit may change. "
    "Connect the model and CLIP of a SAM 3 checkpoint and the picture, and the region to Create Diptych or to an Image "
    "Edit Turn."
)

USE_NOTE = """## How to use

1. Choose your picture in **Load Image**.
2. Say **where** in Region by Words: what one would call it, such as *hair* or *the dog's nose*. Several things are
separated by commas; *window: 4* takes up to four of them. Empty: the whole picture.
3. Write **one plain command** in **Edit Instruction**.
4. Run. Where the edit may happen is shown first, then the result is saved. **Nothing outside changes by one pixel.**

**Not found?** The run stops before anything is sampled, and says so. Use plainer words, or open Region by Words with
the symbol in its corner and lower `threshold`.

**Small things in large pictures**: set `fit` of Create Diptych to `crop_to_region`, so that the model sees them large.

**In several turns**: Region by Words is in the node library too. Give each Image Edit Turn its own, connected to
`region`.

**A red node?** Your ComfyUI is older than SAM 3 in it. Update it, or paint the region by hand: right-click the
picture in Create Diptych, *Open in MaskEditor*."""


def region_by_words(info: NodeInfo) -> Subgraph:
    """From words and a picture to a region."""
    subgraph = Subgraph(
        REGION_BY_WORDS,
        info,
        first_id=FIRST_ID,
        ports=("model", "clip", "image", "where", "threshold", "grow", "feather"),
        description=DESCRIPTION,
        search_aliases=("ICEdit", "say where", "SAM3", "segment", "mask by words"),
    )
    words = subgraph.add("CLIPTextEncode", (20, 60), (340, 160), values={"clip": Port("clip"), "text": Port("where")})
    found = subgraph.add(
        "SAM3_Detect",
        (420, 60),
        (340, 260),
        values={
            "model": Port("model"),
            "image": Port("image"),
            "conditioning": words["CONDITIONING"],
            "threshold": Port("threshold"),
        },
    )
    region = subgraph.add(
        "RegionFromMask",
        (820, 60),
        (340, 480),
        values={
            "mask": found["masks"],
            "image": Port("image"),
            "grow": Port("grow"),
            "feather": Port("feather"),
            "words": Port("where"),
        },
    )
    subgraph.outputs = {"region": region["region"], "preview": region["preview"]}
    return subgraph


def icedit_say_where(info: NodeInfo) -> Graph:
    """The mixture of LoRA experts, in a region that is named in words."""
    graph = Graph("icedit_say_where", info)
    models = loaded(graph, moe_lora(graph))
    finder = graph.add(
        "CheckpointLoaderSimple", graph.below(20), (330, 110), values={"ckpt_name": SAM3["name"]}, models=[SAM3]
    )
    picture = graph.add("LoadImage", (420, -720), (340, 380), values={"image": EXAMPLE_PICTURE})
    values = {
        "model": finder["MODEL"],
        "clip": finder["CLIP"],
        "image": picture["IMAGE"],
        "where": WHERE,
        "threshold": 0.5,
        "grow": 0.02,
        "feather": 0.01,
    }
    where = graph.place(region_by_words(info), (830, -720), (400, 300), values=values)
    graph.add("PreviewImage", (1300, -720), (400, 380), values={"images": where["preview"]}, in_api=False)
    source = {"image": "None", "image_input": picture["IMAGE"], "region": where["region"]}
    result(graph, models, *edit(graph, models, source, INSTRUCTION, ksampler), before=picture["IMAGE"])
    graph.group("1. Your picture, and where to edit it", (400, -820, 1320, 100 + 380 + 80))
    frames(graph, ("Models", "2. Your words", "3. Edit", "4. Result"))
    graph.note((-480, -820), (440, 620), "How to use", USE_NOTE)
    remark = f"The LoRA downloads as `pytorch_lora_weights.safetensors`: **rename it** to `{MOE_LORA['name']}`."
    files = (FLUX_FILL, CLIP_L, T5, VAE, MOE_LORA, SAM3)
    files_note(graph, graph.below(-480, -820), 450, files, remark, "FLUX.1-Fill")
    return graph


def region_blueprint(info: NodeInfo) -> Graph:
    """Region by Words for the page's node library."""
    graph = Graph(REGION_BY_WORDS, info)
    values = {"where": WHERE, "threshold": 0.5, "grow": 0.02, "feather": 0.01}
    graph.place(region_by_words(info), (0, 0), (340, 300), values=values)
    return graph
