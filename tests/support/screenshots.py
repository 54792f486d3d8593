"""Takes the README's pictures of the page, with the mini models' edits in them.

Run `python -m support.screenshots` in the folder `tests`, with the environment's Python and ICEDIT_HOST as for tests.
"""

import io
import json
import os
import shutil
import sys
from pathlib import Path

from PIL import Image

from .page import ComfyPage, comfy_page

PACK = Path(__file__).resolve().parents[2]
IMAGES = PACK / "web" / "docs" / "images"
FILTER = "EarlyFilterSampler"
LOOK_AT = """([kind, margin]) => {
  const { canvas, graph } = window.app
  const nodes = graph._nodes.filter(node => !kind || node.type === kind)
  const boxes = nodes.map(node => node.boundingRect)
  const [left, top] = [0, 1].map(axis => Math.min(...boxes.map(box => box[axis])) - margin)
  const [right, foot] = [0, 1].map(axis => Math.max(...boxes.map(box => box[axis] + box[axis + 2])) + margin)
  const scale = Math.min((innerWidth - 80) / (right - left), (innerHeight - 110) / (foot - top))
  canvas.ds.scale = scale
  canvas.ds.offset = [60 / scale - left + ((innerWidth - 80) / scale - right + left) / 2, 100 / scale - top]
  canvas.deselectAll()
  canvas.setDirty(true, true)
}"""


def main() -> None:
    """Write every picture into web/docs/images."""
    sys.path.insert(0, str(PACK))
    from headless import embedded
    from headless.environment import Environment
    from headless.server import running_server

    values: dict[str, dict[str, object]] = {"InContextEditInstruction": {"editText": embedded.INSTRUCTION}}
    for place, value in embedded.MINI_VALUES.items():
        kind, _, widget = place.partition(".")
        values.setdefault(kind, {})[widget] = value
    IMAGES.mkdir(parents=True, exist_ok=True)
    environment = Environment(python=Path(sys.executable), host=Path(os.environ["ICEDIT_HOST"]))
    with running_server(environment, embedded.MODELS) as server:
        shutil.copy(embedded.PICTURE, server.folder / "input" / "example.png")
        with comfy_page(server.url) as comfy:
            take(comfy, values)


def take(comfy: ComfyPage, values: dict[str, dict[str, object]]) -> None:
    """Every picture in turn."""
    comfy.evaluate("() => window.app.extensionManager.setting.set('Comfy.Minimap.Visible', false)")
    comfy.use_nodes_2(True)
    opened(comfy, "icedit", values)
    comfy.run()
    picture(comfy, "page_icedit", None)
    opened(comfy, "icedit_early_filter", values)
    comfy.run()
    picture(comfy, "page_early_filter", None)
    comfy.evaluate(LOOK_AT, [FILTER, 20])
    comfy.page.wait_for_timeout(1000)
    comfy.press(FILTER, "Pin a candidate's seed")
    picture(comfy, "page_pin_candidate", FILTER, look=False)
    comfy.close_menu()
    comfy.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    comfy.page.locator("[role='button']", has_text="comfyui-icedit").click()
    comfy.page.wait_for_timeout(2000)
    picture(comfy, "page_templates", None, look=False)


def opened(comfy: ComfyPage, name: str, values: dict[str, dict[str, object]]) -> None:
    comfy.drop(json.loads((PACK / "workflows" / f"{name}.json").read_text(encoding="utf-8")))
    comfy.set(values)


def picture(comfy: ComfyPage, name: str, kind: str | None, look: bool = True) -> None:
    """The page as it is; a picture around one kind of node is cropped to its middle."""
    if look:
        comfy.evaluate(LOOK_AT, [None, 40])
    # Messages fade.
    comfy.page.wait_for_timeout(7000)
    content = Image.open(io.BytesIO(comfy.page.screenshot())).convert("RGB")
    if kind:
        content = content.crop((content.width // 2 - 450, 0, content.width // 2 + 450, content.height))
    content.save(IMAGES / f"{name}.webp", quality=80, method=6)


if __name__ == "__main__":
    main()
