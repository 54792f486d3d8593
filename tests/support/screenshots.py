"""Takes the README's pictures of the page, with the mini models' edits in them.

Run `python -m support.screenshots` in the folder `tests`, with the environment's Python and ICEDIT_HOST as for tests.
"""

import io
import json
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
  return Math.min(innerHeight, 100 + (foot - top) * scale)
}"""
SLIDER = 0.27
"""Where the before/after slider stands, as a share of the width: in the middle of the circle that is edited."""


def main() -> None:
    """Write every picture into web/docs/images."""
    import conftest  # noqa: F401  makes the pack importable

    sys.path.insert(0, str(PACK))
    from icedit.headless import embedded
    from icedit.private_host.environment import Environment
    from icedit.private_host.server import running_server

    from workflows.source import carried, models
    from workflows.source.sampling import INSTRUCTION

    published = {
        "UNETLoader.unet_name": models.FLUX_FILL, "DualCLIPLoader.clip_name1": models.CLIP_L,
        "DualCLIPLoader.clip_name2": models.T5, "VAELoader.vae_name": models.VAE,
        "LoraLoaderModelOnly.lora_name": models.NORMAL_LORA, "MoELoRALoader.lora_name": models.MOE_LORA,
    }  # fmt: skip
    values = {model["name"]: embedded.MINI_VALUES[place] for place, model in published.items()}
    values[INSTRUCTION] = embedded.INSTRUCTION
    IMAGES.mkdir(parents=True, exist_ok=True)
    environment = Environment.of_this_process()
    with running_server(environment, embedded.MODELS) as server:
        shutil.copy(embedded.PICTURE, server.folder / "input" / "example.png")
        with comfy_page(server.url) as comfy:
            take(comfy, values)
    carried.main()


def take(comfy: ComfyPage, values: dict[str, str]) -> None:
    """Every picture in turn."""
    comfy.evaluate("() => window.app.extensionManager.setting.set('Comfy.Minimap.Visible', false)")
    comfy.use_nodes_2(True)
    opened(comfy, "icedit_moe", values)
    comfy.run()
    picture(comfy, "page_edit", None)
    opened(comfy, "icedit_early_filter", values)
    comfy.run()
    picture(comfy, "page_early_filter", None)
    comfy.evaluate(LOOK_AT, [FILTER, 20])
    comfy.page.wait_for_timeout(1000)
    comfy.open_preview(FILTER, 1)
    comfy.press(FILTER, "Pin a candidate's seed")
    picture(comfy, "page_pin_candidate", FILTER, look=False)
    comfy.close_menu()
    comfy.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    comfy.page.locator("[role='button']", has_text="comfyui-icedit").click()
    comfy.page.wait_for_timeout(2000)
    picture(comfy, "page_templates", None, look=False)


def opened(comfy: ComfyPage, name: str, values: dict[str, str]) -> None:
    """A workflow whose widgets say what `values` has for what they said, so that the page misses no model."""
    content = json.loads((PACK / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    for node in content["nodes"]:
        node["properties"].pop("models", None)
        said = node["widgets_values"]
        node["widgets_values"] = [values.get(value, value) if isinstance(value, str) else value for value in said]
    comfy.drop(content)
    comfy.set({"DiptychCreate": {"panel_width": 128}})


def picture(comfy: ComfyPage, name: str, kind: str | None, look: bool = True) -> None:
    """The page as it is, or down to where the nodes end; a picture around one kind of node is cropped to its middle."""
    foot = comfy.evaluate(LOOK_AT, [None, 40]) if look else None
    # Messages fade.
    comfy.page.wait_for_timeout(7000)
    slider = comfy.page.get_by_test_id("image-compare-viewport")
    if look and slider.count():
        box = slider.bounding_box()
        comfy.page.mouse.move(box["x"] + SLIDER * box["width"], box["y"] + box["height"] / 4)
        comfy.page.wait_for_timeout(300)
    content = Image.open(io.BytesIO(comfy.page.screenshot())).convert("RGB")
    left, right = (content.width // 2 - 450, content.width // 2 + 450) if kind else (0, content.width)
    content.crop((left, 0, right, round(foot or content.height))).save(IMAGES / f"{name}.webp", quality=80, method=6)


if __name__ == "__main__":
    main()
