"""What the pictures of the help pages show: edits without ICEdit's LoRA, by the mini text-to-image FLUX."""

from .help_scenes import (
    CONDITIONS,
    FAR,
    FARTHER,
    MINI_LOADERS,
    MODEL,
    START,
    ZERO,
    Node,
    Scene,
    diptych,
    preview,
    show,
    text,
)

SHOWS = "a red circle, a green triangle and a yellow square on a cyan background"
SAY = "change the background to black"
SETTINGS = {"seed": 42, "control_after_generate": "fixed", "steps": 28, "cfg": 1, "scheduler": "simple"}
UNTRAINED = {name: MINI_LOADERS[name] for name in ("clip", "vae")} | ZERO | {
    "unet": Node("UNETLoader", (FAR, 100), (300, 80), {"unet_name": "mini_dev.safetensors"}, shown=False),
    "diptych": diptych((FARTHER, 100), shown=False, width=128, image="drawing.png"),
    "decode": Node(
        "DecodeRightHalf", (FAR, 1300), (270, 160), {},
        {"samples": ("sampler", "LATENT"), "vae": ("vae", "VAE"), "layout": ("diptych", "layout"),
         "original": ("diptych", "original_image")}, False,
    ),
    "both": Node(
        "ImageStitch", (FARTHER, 1300), (270, 160), {"spacing_width": 8},
        {"image1": ("diptych", "original_image"), "image2": ("decode", "image")}, False,
    ),
}  # fmt: skip
"""Each scene adds `words` and the `sampler`."""


def words(place: tuple[int, int], shown: bool = True) -> Node:
    widgets = {"editText": SAY, "guidance": 3.5, "template": "text-to-image", "description": SHOWS}
    return Node("InContextEditInstruction", place, (330, 280), widgets, {"clip": ("clip", "CLIP")}, shown)


UNTRAINED_SCENES = {
    "InContextInversion": Scene(
        UNTRAINED | {
            "words": words((FARTHER, 600), shown=False),
            "source": Node(
                "CLIPTextEncode", (FARTHER, 950), (300, 100), {"text": SHOWS}, {"clip": ("clip", "CLIP")}, False
            ),
            "inversion": Node(
                "InContextInversion", (120, 160), (320, 420), {},
                MODEL | {"source_prompt": ("source", "CONDITIONING"), "vae": ("vae", "VAE"),
                         "diptych": ("diptych", "diptych")},
            ),
            "sampler": Node(
                "KSampler", (FAR, 900), (270, 300), SETTINGS,
                {"model": ("inversion", "model"), "latent_image": ("inversion", "latent"),
                 "positive": ("words", "In_context"), "negative": ("zero", "CONDITIONING")}, False,
            ),
            "text": text(("inversion", "report"), (470, 160), (350, 420)),
            "preview": preview(("both", "IMAGE"), (850, 160), (310, 260)),
        },
        run=True,
    ),
    "InContextEditInstruction_text_to_image": Scene(
        UNTRAINED | {
            "words": words((120, 160)),
            "show": show((FARTHER, 950), shown=False),
            "sampler": Node("KSampler", (FAR, 900), (270, 300), SETTINGS, MODEL | CONDITIONS | START, False),
            "text": text(("words", "prompt"), (480, 160), (330, 280)),
            "preview": preview(("both", "IMAGE"), (840, 160), (310, 280)),
        },
        run=True,
    ),
}  # fmt: skip
