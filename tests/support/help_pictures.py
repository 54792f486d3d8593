"""Takes the pictures of the help pages: each node in the real page, with what it makes of the tiny or mini models.

From the folder `tests`, with the environment's Python and ICEDIT_HOST as for the tests:
`python -m support.help_pictures [NodeId ...]`. Looks over its results are needed: nothing checks what they show.
"""

import colorsys
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter

from .browser import BROWSER, FLAGS
from .help_scenes import SCENES, Scene
from .help_scenes_found import FOUND_SCENES
from .help_scenes_untrained import UNTRAINED_SCENES

PACK = Path(__file__).resolve().parents[2]
IMAGES = PACK / "web" / "docs" / "images"
PHOTO = PACK / "headless" / "astronaut.jpg"
MINI = PACK / "mini"
LONGEST_SIDE = 900
QUALITY = 82
MARGIN = 24
SUIT = (60, 190, 390, 512)
HAIR = (152, 8, 302, 122)


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
    node.properties.scene = key
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
QUEUE = "async () => await window.app.queuePrompt(0)"
BOUNDS = """() => Object.fromEntries(window.app.graph._nodes.map(
  node => [node.properties.scene, Array.from(node.boundingRect ?? node.getBounding())]
))"""
HISTORY = """async () => Object.values(await (await fetch('/history')).json()).map(prompt => prompt.status)"""


def picture(page: Any, scene: Scene) -> Image.Image:
    """The nodes of a scene in the page, run first where it says so."""
    open_empty(page)
    page.evaluate(BUILD, {key: vars(node) for key, node in scene.nodes.items()})
    page.wait_for_timeout(500)
    if scene.run:
        run(page)
    if scene.press:
        page.locator(scene.press).click()
        run(page)
    page.evaluate("() => window.app.canvas.setDirty(true, true)")
    page.mouse.move(1800, 1100)
    page.wait_for_timeout(700)
    shown = [box for key, box in page.evaluate(BOUNDS).items() if scene.nodes[key].shown]
    left, top = (min(box[axis] for box in shown) - MARGIN for axis in (0, 1))
    right, bottom = (max(box[axis] + box[axis + 2] for box in shown) + MARGIN for axis in (0, 1))
    clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")


def run(page: Any) -> None:
    """Run the graph that the page shows, to its end."""
    before = len(page.evaluate(HISTORY))
    if not page.evaluate(QUEUE):
        raise RuntimeError("ComfyUI refused the scene; its log says why")
    while len(ended := page.evaluate(HISTORY)) == before:
        page.wait_for_timeout(200)
    if ended[-1]["status_str"] != "success":
        raise RuntimeError(f"the scene failed: {ended[-1]['messages'][-1]}")
    page.wait_for_timeout(1500)


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
    from support.tiny_stack import write_stack

    from .tiny_clip import write_clip

    write_stack(folder)
    shutil.copytree(MINI / "models", folder, dirs_exist_ok=True)
    write_clip(folder / "clip_vision" / "clip-vit-large-patch14")
    encoders = folder / "text_encoders"
    # Only its name is shown: that scene is not run.
    (encoders / "qwen3vl_4b.safetensors").write_bytes((encoders / "clip_l.safetensors").read_bytes())


def write_inputs(folder: Path) -> None:
    photo = Image.open(PHOTO).convert("RGB")
    photo.save(folder / "astronaut.png")
    shutil.copy(MINI / "example.png", folder / "drawing.png")
    panel = photo.resize((512, round(512 * photo.height / photo.width / 16) * 16))
    edit = recoloured(panel)
    edit.save(folder / "edited.png")
    found = Image.new("L", photo.size)
    ImageDraw.Draw(found).ellipse(HAIR, 255)
    found.save(folder / "found.png")
    for number, box in enumerate(((0, 0, 512, 512), (0, 0, 480, 360), (20, 0, 380, 480)), start=1):
        for place, whole in (("before", panel), ("after", edit)):
            (folder / "suits" / place).mkdir(parents=True, exist_ok=True)
            whole.crop(box).save(folder / "suits" / place / f"{number}.png")
        (folder / "suits" / "after" / f"{number}.txt").write_text("make the suit green\ndye the suit green")
    diptych = Image.new("RGB", (1024, panel.height))
    diptych.paste(panel, (0, 0))
    diptych.paste(edit, (512, 0))
    diptych.save(folder / "decoded.png")


@contextmanager
def open_page() -> Iterator[Any]:
    """The page of a private ComfyUI with the tiny stack and the inputs."""
    import conftest  # noqa: F401  makes the pack importable
    from icedit.private_host.environment import Environment
    from icedit.private_host.server import running_server
    from playwright.sync_api import sync_playwright

    environment = Environment.of_this_process()
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
        for name, scene in (SCENES | FOUND_SCENES | UNTRAINED_SCENES).items():
            if wanted and name not in wanted:
                continue
            taken = picture(page, scene)
            taken.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
            taken.save(IMAGES / f"{name}.webp", quality=QUALITY, method=6)
    from icedit.workflows.source import carried

    carried.main()


if __name__ == "__main__":
    main(sys.argv[1:])
