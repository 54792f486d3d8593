"""What the pictures of the help pages show: one small graph for each node."""

from dataclasses import dataclass, field
from typing import Any

Source = tuple[str, str]
"""Another node of the scene and the name of its output."""


@dataclass(frozen=True)
class Node:
    """A node of a scene; one that is not shown feeds those that are."""

    kind: str
    place: tuple[int, int]
    size: tuple[int, int]
    widgets: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Source] = field(default_factory=dict)
    shown: bool = True


@dataclass(frozen=True)
class Scene:
    """Nodes by name; with `run` the picture is taken after the graph has been run, with `press` after this element of
    the page has then been pressed and the graph run again."""

    nodes: dict[str, Node]
    run: bool = False
    press: str | None = None


FAR, FARTHER = 2200, 2600
"""Outside the window."""
SETTINGS = {"seed": 7, "control_after_generate": "fixed", "steps": 28, "candidates": 4}
MODEL: dict[str, Source] = {"model": ("unet", "MODEL")}
START: dict[str, Source] = {"latent_image": ("show", "latent")}
CONDITIONS: dict[str, Source] = {"positive": ("show", "In_context"), "negative": ("show", "negative")}
JUDGED: dict[str, Source] = {"vae": ("vae", "VAE"), "instruction": ("words", "instruction")}
SAMPLED = MODEL | CONDITIONS | START | JUDGED


def diptych(place: tuple[int, int], shown: bool = True, width: int = 512, image: str = "astronaut.png") -> Node:
    widgets = {"image": image, "panel_width": width}
    return Node("DiptychCreate", place, (300, 420), widgets, shown=shown)


def words(place: tuple[int, int], shown: bool = True, width: int = 320, say: str = "make the suit green") -> Node:
    widgets = {"editText": say}
    return Node("InContextEditInstruction", place, (width, 220), widgets, {"clip": ("clip", "CLIP")}, shown)


def show(place: tuple[int, int], shown: bool = True) -> Node:
    inputs: dict[str, Source] = {
        "In_context": ("words", "In_context"), "negative": ("zero", "CONDITIONING"), "vae": ("vae", "VAE"),
        "diptych": ("diptych", "diptych"), "maskDiptych": ("diptych", "maskDiptych"),
    }  # fmt: skip
    return Node("ICEFConditioning", place, (260, 150), {}, inputs, shown)


def preview(source: Source, place: tuple[int, int], size: tuple[int, int] = (290, 330)) -> Node:
    return Node("PreviewImage", place, size, {}, {"images": source})


def mask(source: Source, place: tuple[int, int], size: tuple[int, int] = (290, 330)) -> Node:
    return Node("MaskPreview", place, size, {}, {"mask": source})


def text(source: Source, place: tuple[int, int], size: tuple[int, int]) -> Node:
    return Node("PreviewAny", place, size, {}, {"source": source})


CLIPS = {"type": "flux", "clip_name1": "clip_l.safetensors", "clip_name2": "t5xxl_fp8_e4m3fn.safetensors"}
FILL = {"unet_name": "flux1-fill-dev.safetensors"}
LOADERS = {
    "unet": Node("UNETLoader", (FAR, 100), (300, 80), FILL, shown=False),
    "clip": Node("DualCLIPLoader", (FAR, 300), (300, 130), CLIPS, shown=False),
    "vae": Node("VAELoader", (FAR, 500), (300, 60), shown=False),
}
ZERO = {
    "zero": Node("ConditioningZeroOut", (FAR, 700), (250, 30), {}, {"conditioning": ("words", "In_context")}, False)
}
MINI_CLIPS = {"type": "flux", "clip_name1": "mini_clip_l.safetensors", "clip_name2": "mini_t5.safetensors"}
MINI_LOADERS = {
    "fill": Node("UNETLoader", (FAR, 0), (300, 80), {"unet_name": "mini_fill.safetensors"}, shown=False),
    "unet": Node(
        "LoraLoaderModelOnly", (FAR, 100), (300, 80), {"lora_name": "mini_lora.safetensors"},
        {"model": ("fill", "MODEL")}, False,
    ),
    "clip": Node("DualCLIPLoader", (FAR, 300), (300, 130), MINI_CLIPS, shown=False),
    "vae": Node("VAELoader", (FAR, 500), (300, 60), {"vae_name": "mini_ae.safetensors"}, shown=False),
}  # fmt: skip
"""The only models here whose edits are worth a look."""
HIDDEN = MINI_LOADERS | ZERO | {
    "diptych": diptych((FARTHER, 100), shown=False, width=128, image="drawing.png"),
    "words": words((FARTHER, 600), shown=False, say="make the red circle blue"),
    "show": show((FARTHER, 900), shown=False),
}  # fmt: skip


# Samplers show their previews themselves, but run only for a node that puts something out.
SINK = {"sink": Node("PreviewAny", (FAR, 1300), (200, 100), {}, {"source": ("sampler", "report")}, shown=False)}


def judge(kind: str, size: tuple[int, int], inputs: dict[str, Source] | None = None) -> dict[str, Node]:
    """A judge at a sampler."""
    to_sampler = SAMPLED | {"judge": ("judge", "judge")}
    sampler = Node("EarlyFilterSampler", (170 + size[0], 160), (360, 480), SETTINGS, to_sampler)
    return HIDDEN | {"judge": Node(kind, (120, 160), size, {}, inputs or {}), "sampler": sampler}


SCENES = {
    "DiptychCreate": Scene(
        {
            "diptych": diptych((120, 160)),
            "preview": preview(("diptych", "diptych"), (460, 160), (420, 270)),
            "mask": mask(("diptych", "maskDiptych"), (460, 480), (420, 270)),
        },
        run=True,
    ),
    "InContextEditInstruction": Scene(
        LOADERS | {"words": words((120, 160), width=340), "text": text(("words", "prompt"), (500, 160), (340, 220))},
        run=True,
    ),
    "ICEFConditioning": Scene(
        LOADERS | ZERO | {
            "diptych": diptych((120, 160)),
            "words": words((460, 160)),
            "show": show((820, 160)),
            "sampler": Node("KSampler", (1120, 160), (270, 260), {"cfg": 1, "steps": 28}, MODEL | CONDITIONS | START),
        }
    ),
    "CropRightHalf": Scene(
        {
            "decoded": Node("LoadImage", (120, 160), (330, 290), {"image": "decoded.png"}),
            "diptych": diptych((FAR, 160), shown=False),
            "crop": Node(
                "CropRightHalf", (490, 160), (270, 120), {"restore": "blend"},
                {"image": ("decoded", "IMAGE"), "layout": ("diptych", "layout"),
                 "original": ("diptych", "original_image")},
            ),
            "preview": preview(("crop", "image"), (800, 160)),
            "mask": mask(("crop", "changed"), (1110, 160)),
        },
        run=True,
    ),
    "DecodeRightHalf": Scene(
        HIDDEN | {
            "words": words((FARTHER, 600), shown=False, say="change the background to pink"),
            "sampler": Node(
                "KSampler", (120, 160), (270, 400), {"seed": 7, "cfg": 1, "steps": 28, "scheduler": "simple"},
                MODEL | CONDITIONS | START,
            ),
            "decode": Node(
                "DecodeRightHalf", (430, 160), (270, 160), {},
                {"samples": ("sampler", "LATENT"), "vae": ("vae", "VAE"), "layout": ("diptych", "layout"),
                 "original": ("diptych", "original_image")},
            ),
            "preview": preview(("decode", "image"), (740, 160)),
        },
        run=True,
    ),
    "LoadEditPairs": Scene(
        {
            "pairs": Node(
                "LoadEditPairs", (120, 160), (330, 290), {"sources": "suits/before", "edited": "suits/after"}
            ),
            "report": text(("pairs", "report"), (490, 160), (420, 230)),
        },
        run=True,
    ),
    "EditRestore": Scene(
        {
            "edited": Node("LoadImage", (120, 160), (250, 330), {"image": "edited.png"}),
            "original": Node("LoadImage", (FAR, 160), (250, 330), {"image": "astronaut.png"}, shown=False),
            "restore": Node(
                "EditRestore", (410, 160), (270, 120), {},
                {"edited": ("edited", "IMAGE"), "original": ("original", "IMAGE")},
            ),
            "preview": preview(("restore", "image"), (720, 160)),
            "mask": mask(("restore", "changed"), (1030, 160)),
        },
        run=True,
    ),
    "EarlyFilterSampler": Scene(
        HIDDEN | {"sampler": Node("EarlyFilterSampler", (120, 160), (400, 860), SETTINGS, SAMPLED)} | SINK, run=True
    ),
    "EarlyFilterSamplerPick": Scene(
        HIDDEN | {
            "sampler": Node("EarlyFilterSampler", (230, 100), (400, 860), SETTINGS | {"choose": "me"}, SAMPLED),
            "decode": Node(
                "DecodeRightHalf", (FARTHER, 1200), (270, 160), {},
                {"samples": ("sampler", "latent"), "vae": ("vae", "VAE"), "layout": ("diptych", "layout"),
                 "original": ("diptych", "original_image")},
                False,
            ),
            "preview": preview(("decode", "image"), (670, 100)),
        } | SINK,
        run=True,
        press=".icedit-pick [role='radio']:nth-child(2)",
    ),
    "EarlyFilterSamplerAdvanced": Scene(
        HIDDEN | {
            "guider": Node(
                "BasicGuider", (120, 160), (250, 60), {}, MODEL | {"conditioning": ("show", "In_context")}
            ),
            "kind": Node("KSamplerSelect", (120, 280), (250, 60)),
            "sigmas": Node("BasicScheduler", (120, 400), (250, 110), {"steps": 28}, MODEL),
            "sampler": Node(
                "EarlyFilterSamplerAdvanced", (410, 160), (400, 820),
                {name: value for name, value in SETTINGS.items() if name != "steps"},
                START | JUDGED
                | {"guider": ("guider", "GUIDER"), "sampler": ("kind", "SAMPLER"), "sigmas": ("sigmas", "SIGMAS")},
            ),
        } | SINK,
        run=True,
    ),
    "MoELoRALoader": Scene(
        {
            "unet": Node("UNETLoader", (120, 160), (290, 90), FILL),
            "lora": Node(
                "MoELoRALoader", (450, 160), (320, 160), {"lora_name": "icedit_moe_lora.safetensors"}, MODEL
            ),
            "text": text(("lora", "report"), (810, 160), (400, 190)),
        },
        run=True,
    ),
    "TrainMoELoRA": Scene(
        MINI_LOADERS | {
            "train": Node(
                "TrainMoELoRA", (120, 160), (420, 700), {"name": "my_edit"},
                MODEL | {"clip": ("clip", "CLIP"), "vae": ("vae", "VAE")},
            ),
        },
    ),
    "ExpertUsage": Scene(
        HIDDEN | {
            "unet": Node(
                "MoELoRALoader", (FAR, 100), (300, 130), {"lora_name": "mini_moe_lora.safetensors"},
                {"model": ("fill", "MODEL")}, False,
            ),
            "usage": Node(
                "ExpertUsage", (120, 100), (700, 900),
                {"seed": 7, "control_after_generate": "fixed", "steps": 28},
                CONDITIONS | START | {"model": ("unet", "model"), "vae": ("vae", "VAE")},
            ),
        },
        run=True,
    ),
    "FlattenMoELoRA": Scene(
        {
            "flatten": Node(
                "FlattenMoELoRA", (120, 160), (330, 150), {"lora_name": "mini_moe_lora.safetensors", "rank": 32}
            ),
            "text": text(("flatten", "report"), (490, 160), (420, 240)),
        },
        run=True,
    ),
    "ReuseKnownTokens": Scene(
        HIDDEN | {
            "reuse": Node("ReuseKnownTokens", (120, 160), (330, 260), {"skip_steps": 0.003}, MODEL),
            "sampler": Node(
                "KSampler", (490, 160), (270, 260), {"cfg": 1, "steps": 28, "seed": 7},
                {"model": ("reuse", "model")} | CONDITIONS | START,
            ),
            "decoded": Node(
                "VAEDecode", (FARTHER, 1200), (200, 60), {}, {"samples": ("sampler", "LATENT"), "vae": ("vae", "VAE")},
                False,
            ),
            "preview": preview(("decoded", "IMAGE"), (800, 160)),
        },
        run=True,
    ),
    "EditJudgePixels": Scene(judge("EditJudgePixels", (400, 40))),
    "EditJudgeVLM": Scene(
        judge("EditJudgeVLM", (330, 210), {"clip": ("eyes", "CLIP")})
        | {"eyes": Node("CLIPLoader", (120, 440), (330, 110), {"clip_name": "qwen3vl_4b.safetensors"})}
    ),
    "EditJudgeEndpoint": Scene(judge("EditJudgeEndpoint", (330, 300))),
    "EditJudgeCLIP": Scene(judge("EditJudgeCLIP", (330, 140))),
}  # fmt: skip
