"""Takes the pictures of the help pages: each node in the real page, with what it makes of the tiny models.

From the folder `tests`, with the environment's Python and ICEDIT_HOST as for the tests:
`python -m support.help_pictures [NodeId ...]`. Looks over its results are needed: nothing checks what they show.
"""

import colorsys
import importlib.util
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter

PACK = Path(__file__).resolve().parents[2]
IMAGES = PACK / "web" / "docs" / "images"
PHOTO = PACK / "headless" / "astronaut.jpg"
LONGEST_SIDE = 900
QUALITY = 82
MARGIN = 24
SUIT = (60, 190, 390, 512)


@dataclass(frozen=True)
class Node:
    """A node of a scene: its place and size, its widgets' values, and where its inputs come from: (node, output)."""

    kind: str
    place: tuple[int, int]
    size: tuple[int, int]
    widgets: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, tuple[str, str]] = field(default_factory=dict)
    shown: bool = True


BUILD = """scene => {
  const graph = window.app.graph
  graph.clear()
  const made = {}
  for (const [key, want] of Object.entries(scene)) {
    const node = window.LiteGraph.createNode(want.kind)
    node.pos = want.place
    graph.add(node)
    node.size = want.size
    for (const [name, value] of Object.entries(want.widgets)) {
      const widget = node.widgets.find(widget => widget.name === name)
      if (!widget) throw new Error(`${want.kind} has no widget ${name}`)
      widget.value = value
      widget.callback?.(value)
    }
    made[key] = node
  }
  for (const [key, want] of Object.entries(scene))
    for (const [name, [from, output]] of Object.entries(want.inputs)) {
      const slot = made[from].outputs.findIndex(slot => slot.name === output)
      if (slot < 0 || !made[from].connect(slot, made[key], name)) throw new Error(`${from}.${output} to ${key}.${name}`)
    }
  const canvas = window.app.canvas
  canvas.ds.scale = 1
  canvas.ds.offset = [0, 0]
  canvas.links_render_mode = 2
  canvas.setDirty(true, true)
}"""
QUEUE = "async () => { await window.app.queuePrompt(0) }"
BOUNDS = """() => window.app.graph._nodes.map(node => Array.from(node.boundingRect ?? node.getBounding()))"""
HISTORY = """async () => Object.values(await (await fetch('/history')).json()).map(prompt => prompt.status)"""


def picture(page: Any, scene: dict[str, Node], run: bool) -> Image.Image:
    """The nodes of a scene in the page, run first where `run` says so."""
    open_empty(page)
    page.evaluate(BUILD, {key: vars(node) for key, node in scene.items()})
    page.wait_for_timeout(500)
    if run:
        before = len(page.evaluate(HISTORY))
        page.evaluate(QUEUE)
        while len(ended := page.evaluate(HISTORY)) == before:
            page.wait_for_timeout(200)
        if ended[-1]["status_str"] != "success":
            raise RuntimeError(f"the scene failed: {ended[-1]['messages'][-1]}")
        page.wait_for_timeout(1500)
    page.evaluate("() => window.app.canvas.setDirty(true, true)")
    page.mouse.move(1800, 1100)
    page.wait_for_timeout(700)
    shown = [box for box, node in zip(page.evaluate(BOUNDS), scene.values(), strict=True) if node.shown]
    left, top = (min(box[axis] for box in shown) - MARGIN for axis in (0, 1))
    right, bottom = (max(box[axis] + box[axis + 2] for box in shown) + MARGIN for axis in (0, 1))
    clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")


def open_empty(page: Any) -> None:
    """The page as new: it keeps widgets' values and results by the numbers of nodes."""
    page.reload()
    page.wait_for_function("() => window.app?.graph", timeout=60000)
    page.wait_for_timeout(3000)
    page.keyboard.press("Escape")
    page.wait_for_timeout(300)


def recoloured(photo: Image.Image) -> Image.Image:
    """The photograph with its orange suit made green: an edit such as a good model makes, for nodes that restore."""
    hsv = photo.convert("HSV")
    hue, saturation, value = hsv.split()
    orange = Image.composite(
        Image.new("L", photo.size, 255), Image.new("L", photo.size), hue.point(lambda h: 255 if h < 22 else 0)
    )
    vivid = saturation.point(lambda s: 255 if s > 140 else 0)
    mask = Image.composite(orange, Image.new("L", photo.size), vivid).filter(ImageFilter.MedianFilter(7))
    suit = Image.new("L", photo.size)
    suit.paste(mask.crop(SUIT), SUIT)
    green = round(colorsys.rgb_to_hsv(0.1, 0.6, 0.3)[0] * 255)
    changed = Image.merge("HSV", (Image.new("L", photo.size, green), saturation, value)).convert("RGB")
    return Image.composite(changed, photo, suit)


def write_models(folder: Path) -> None:
    from icedit.headless.tiny.weights import write_stack

    from support.tiny_clip import write_clip

    write_stack(folder)
    write_clip(folder / "clip_vision" / "clip-vit-large-patch14")
    encoders = folder / "text_encoders"
    # Only its name is shown: that scene is not run.
    (encoders / "qwen3vl_4b.safetensors").write_bytes((encoders / "clip_l.safetensors").read_bytes())


def write_inputs(folder: Path) -> None:
    photo = Image.open(PHOTO).convert("RGB")
    photo.save(folder / "astronaut.png")
    panel = photo.resize((512, round(512 * photo.height / photo.width / 16) * 16))
    edit = recoloured(panel)
    edit.save(folder / "edited.png")
    diptych = Image.new("RGB", (1024, panel.height))
    diptych.paste(panel, (0, 0))
    diptych.paste(edit, (512, 0))
    diptych.save(folder / "decoded.png")


def scenes() -> dict[str, tuple[dict[str, Node], bool]]:
    """Node id -> its scene, and whether it is run."""
    load = {
        "unet": Node("UNETLoader", (2200, 100), (300, 80), shown=False),
        "clip": Node("DualCLIPLoader", (2200, 300), (300, 130), {"type": "flux"}, shown=False),
        "vae": Node("VAELoader", (2200, 500), (300, 60), shown=False),
    }
    load["clip"].widgets.update(clip_name1="clip_l.safetensors", clip_name2="t5xxl_fp8_e4m3fn.safetensors")
    diptych = Node("DiptychCreate", (120, 160), (300, 420), {"image": "astronaut.png", "panel_width": 256})
    words = Node(
        "InContextEditInstruction",
        (460, 160),
        (320, 220),
        {"editText": "make the suit green"},
        {"clip": ("clip", "CLIP")},
    )
    zero = Node("ConditioningZeroOut", (2200, 700), (250, 30), {}, {"conditioning": ("words", "In_context")}, False)
    shown = Node(
        "ICEFConditioning", (820, 160), (260, 150), {},
        {
            "In_context": ("words", "In_context"), "negative": ("zero", "CONDITIONING"), "vae": ("vae", "VAE"),
            "diptych": ("diptych", "diptych"), "maskDiptych": ("diptych", "maskDiptych"),
        },
    )  # fmt: skip
    hidden = {
        "diptych": Node(diptych.kind, (2600, 100), diptych.size, diptych.widgets, shown=False),
        "words": Node(words.kind, (2600, 600), words.size, words.widgets, words.inputs, False),
        "zero": zero,
        "show": Node(shown.kind, (2600, 900), shown.size, {}, shown.inputs, False),
    }
    model = {"model": ("unet", "MODEL")}
    filtered = {
        "positive": ("show", "In_context"), "negative": ("show", "negative"), "latent_image": ("show", "latent"),
        "vae": ("vae", "VAE"), "instruction": ("words", "instruction"),
    }  # fmt: skip
    settings = {"seed": 7, "steps": 8, "candidates": 4, "probe_steps": 2}
    sampler = Node("EarlyFilterSampler", (120, 160), (400, 860), settings, model | filtered)
    keep = {"latent_image": filtered["latent_image"], "vae": filtered["vae"], "instruction": filtered["instruction"]}

    def save(name: str, source: tuple[str, str], place: tuple[int, int], size: tuple[int, int]) -> dict[str, Node]:
        return {name: Node("PreviewImage", place, size, {}, {"images": source})}

    def text(source: tuple[str, str], place: tuple[int, int], size: tuple[int, int]) -> dict[str, Node]:
        return {"text": Node("PreviewAny", place, size, {}, {"source": source})}

    def judged(kind: str, size: tuple[int, int], inputs: dict[str, tuple[str, str]] | None = None) -> dict[str, Node]:
        judge = Node(kind, (120, 160), size, {}, inputs or {})
        compact = Node(
            sampler.kind, (120 + size[0] + 50, 160), (360, 480), settings,
            model | filtered | {"judge": ("judge", "judge")},
        )  # fmt: skip
        return load | hidden | {"judge": judge, "sampler": compact}

    return {
        "DiptychCreate": (
            {"diptych": diptych} | save("preview", ("diptych", "diptych"), (460, 160), (420, 270))
            | {"mask": Node("MaskPreview", (460, 480), (420, 270), {}, {"mask": ("diptych", "maskDiptych")})},
            True,
        ),
        "InContextEditInstruction": (
            load | {"words": Node(words.kind, (120, 160), (340, 220), words.widgets, words.inputs)}
            | text(("words", "prompt"), (500, 160), (340, 220)),
            True,
        ),
        "ICEFConditioning": (
            load | {"diptych": diptych, "words": words, "zero": zero, "show": shown}
            | {"sampler": Node("KSampler", (1120, 160), (270, 260), {"steps": 1}, model | {
                "positive": ("show", "In_context"), "negative": ("show", "negative"),
                "latent_image": ("show", "latent"),
            })},
            False,
        ),
        "CropRightHalf": (
            {
                "decoded": Node("LoadImage", (120, 160), (330, 290), {"image": "decoded.png"}),
                "diptych": Node("DiptychCreate", (2200, 160), (300, 420), {"image": "astronaut.png"}, shown=False),
                "crop": Node("CropRightHalf", (490, 160), (270, 120), {"restore": "blend"}, {
                    "image": ("decoded", "IMAGE"), "layout": ("diptych", "layout"),
                    "original": ("diptych", "original_image"),
                }),
            }
            | save("preview", ("crop", "image"), (800, 160), (290, 330))
            | {"mask": Node("MaskPreview", (1110, 160), (290, 330), {}, {"mask": ("crop", "changed")})},
            True,
        ),
        "EditRestore": (
            {
                "edited": Node("LoadImage", (120, 160), (250, 330), {"image": "edited.png"}),
                "original": Node("LoadImage", (2200, 160), (250, 330), {"image": "astronaut.png"}, shown=False),
                "restore": Node("EditRestore", (410, 160), (270, 120), {}, {
                    "edited": ("edited", "IMAGE"), "original": ("original", "IMAGE"),
                }),
            }
            | save("preview", ("restore", "image"), (720, 160), (290, 330))
            | {"mask": Node("MaskPreview", (1030, 160), (290, 330), {}, {"mask": ("restore", "changed")})},
            True,
        ),
        "EarlyFilterSampler": (load | hidden | {"sampler": sampler}, True),
        "EarlyFilterSamplerAdvanced": (
            load | hidden | {
                "guider": Node("BasicGuider", (120, 160), (250, 60), {},
                               model | {"conditioning": ("show", "In_context")}),
                "kind": Node("KSamplerSelect", (120, 280), (250, 60)),
                "sigmas": Node("BasicScheduler", (120, 400), (250, 110), {"steps": 8}, model),
                "sampler": Node("EarlyFilterSamplerAdvanced", (410, 160), (400, 820),
                                {name: settings[name] for name in ("seed", "candidates", "probe_steps")},
                                keep | {"guider": ("guider", "GUIDER"), "sampler": ("kind", "SAMPLER"),
                                        "sigmas": ("sigmas", "SIGMAS")}),
            },
            True,
        ),
        "MoELoRALoader": (
            {
                "unet": Node("UNETLoader", (120, 160), (290, 90)),
                "lora": Node("MoELoRALoader", (450, 160), (320, 160), {"lora_name": "icedit_moe_lora.safetensors"},
                             model),
            }
            | text(("lora", "report"), (810, 160), (400, 190)),
            True,
        ),
        "EditJudgePixels": (judged("EditJudgePixels", (250, 40)), False),
        "EditJudgeVLM": (
            judged("EditJudgeVLM", (330, 100), {"clip": ("eyes", "CLIP")})
            | {"eyes": Node("CLIPLoader", (120, 330), (330, 110), {"clip_name": "qwen3vl_4b.safetensors"})},
            False,
        ),
        "EditJudgeEndpoint": (judged("EditJudgeEndpoint", (330, 210)), False),
        "EditJudgeCLIP": (judged("EditJudgeCLIP", (330, 140)), False),
    }  # fmt: skip


@contextmanager
def open_page() -> Iterator[Any]:
    """The page of a private ComfyUI with the tiny stack and the inputs."""
    spec = importlib.util.spec_from_file_location(
        "icedit", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["icedit"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["icedit"])
    from icedit.headless.environment import Environment
    from icedit.headless.server import running_server
    from playwright.sync_api import sync_playwright

    from support.browser import BROWSER, FLAGS

    environment = Environment(python=Path(sys.executable), host=Path(os.environ["ICEDIT_HOST"]))
    with tempfile.TemporaryDirectory() as models, sync_playwright() as playwright:
        write_models(Path(models))
        with running_server(environment, Path(models)) as server:
            write_inputs(server.folder / "input")
            browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
            page = browser.new_page(viewport={"width": 1900, "height": 1200})
            page.goto(server.url)
            yield page
            browser.close()


def main(wanted: list[str]) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with open_page() as page:
        for name, (scene, run) in scenes().items():
            if wanted and name not in wanted:
                continue
            taken = picture(page, scene, run)
            taken.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
            taken.save(IMAGES / f"{name}.webp", quality=QUALITY, method=6)


if __name__ == "__main__":
    main(sys.argv[1:])
