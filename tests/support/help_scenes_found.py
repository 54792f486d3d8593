"""What the pictures of the help pages show: regions that were found, and edits side by side."""

from .help_scenes import CONDITIONS, FAR, FARTHER, HIDDEN, MODEL, START, Node, Scene, diptych, mask

CHANGED = HIDDEN | {
    "diptych": diptych((FARTHER, 100), shown=False, width=128, image="drawing.png"),
    "probe": Node(
        "KSamplerAdvanced", (120, 160), (290, 400),
        {"noise_seed": 7, "control_after_generate": "fixed", "steps": 28, "cfg": 1, "scheduler": "simple",
         "end_at_step": 4},
        MODEL | CONDITIONS | START,
    ),
    "region": Node(
        "RegionFromChange", (450, 160), (320, 480), {},
        {"samples": ("probe", "LATENT"), "vae": ("vae", "VAE"), "layout": ("diptych", "layout"),
         "original": ("diptych", "original_image")},
    ),
    "mask": mask(("region", "region"), (810, 160)),
}  # fmt: skip


def tried(variations: Node, grid: Node) -> dict[str, Node]:
    """Variations from end to end, on the mini models."""
    return HIDDEN | {
        "variations": variations,
        "words": Node(
            "InContextEditInstruction", (FARTHER, 600), (320, 220), {},
            {"clip": ("clip", "CLIP"), "editText": ("variations", "instruction")}, False,
        ),
        "sampler": Node(
            "KSampler", (FAR, 900), (270, 300), {"steps": 28, "cfg": 1, "scheduler": "simple"},
            MODEL | CONDITIONS | START | {"seed": ("variations", "seed")}, False,
        ),
        "decode": Node(
            "DecodeRightHalf", (FAR, 1300), (270, 160), {},
            {"samples": ("sampler", "LATENT"), "vae": ("vae", "VAE"), "layout": ("diptych", "layout"),
             "original": ("diptych", "original_image")}, False,
        ),
        "grid": grid,
        "sink": Node("PreviewImage", (FAR, 1600), (290, 330), {}, {"images": ("grid", "grid")}, False),
    }  # fmt: skip


def hidden(node: Node) -> Node:
    # With another seed, so that it is run again: the page shows no pictures that the server kept.
    return Node(node.kind, (FARTHER, 1600), node.size, node.widgets | {"seed": 11}, node.inputs, False)


VARIATIONS = Node(
    "EditVariations", (120, 160), (330, 240),
    {"instructions": "make the red circle blue\nremove the red circle", "seed": 7,
     "control_after_generate": "fixed", "seeds": 2},
)  # fmt: skip
GRID = Node(
    "EditGrid", (490, 160), (380, 560), {"cell_width": 128},
    {"images": ("decode", "image"), "instruction": ("variations", "instruction"), "seed": ("variations", "seed")},
)  # fmt: skip

FOUND_SCENES = {
    "RegionFromMask": Scene(
        {
            "picture": Node("LoadImage", (120, 160), (250, 330), {"image": "astronaut.png"}),
            "found": Node("LoadImageMask", (120, 560), (250, 330), {"image": "found.png", "channel": "red"}),
            "region": Node(
                "RegionFromMask", (410, 160), (380, 560), {},
                {"mask": ("found", "MASK"), "image": ("picture", "IMAGE")},
            ),
            "mask": mask(("region", "region"), (830, 160)),
        },
        run=True,
    ),
    "RegionFromChange": Scene(CHANGED, run=True),
    "EditVariations": Scene(tried(VARIATIONS, GRID), run=True),
    "EditGrid": Scene(
        tried(hidden(VARIATIONS), Node(GRID.kind, (120, 160), (460, 640), GRID.widgets, GRID.inputs)), run=True
    ),
}  # fmt: skip
