"""Running in the real ComfyUI page: progress, previews, pinning a candidate, before and after."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from icedit.headless.client import ComfyClient
from PIL import Image
from support.edit_pairs import write_pairs
from support.hosts import need_for
from support.page import crowded
from support.workflows import PAGE_WORKFLOWS, WORKFLOWS

pytestmark = pytest.mark.server

FILTER, PIN = "EarlyFilterSampler", "Pin a candidate's seed"
# fmt: off
KSAMPLER = (
    "model", "seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image", "denoise",
)
# fmt: on
SHORT = {
    "DiptychCreate": {"panel_width": 128},
    "KSampler": {"steps": 2},
    "InContextInversion": {"steps": 2},
    "LoadEditPairs": {"panel_size": 64},
    "EditVariations": {"seeds": 1},
    "TrainMoELoRA": {"steps": 2, "rank": 2, "experts": 2},
    FILTER: {"seed": 11, "control_after_generate": "increment", "steps": 4, "candidates": 3, "probe_steps": 1},
}
WIDTHS = "id => [...document.querySelectorAll(`[data-node-id='${id}'] img`)].map(image => image.naturalWidth)"
OUTPUT = "id => window.app.nodeOutputs[id]"
SHOW = "([id, output]) => { window.app.nodeOutputs[id] = output }"
CLOSE = """id => {
  const node = window.app.graph.getNodeById(id)
  node.imageIndex = null
  // So that the canvas loads them again: Nodes 2.0 leaves it the opened one alone.
  node.images = undefined
}"""
MASK_EDITOR = """() => {
  window.app.canvas.selectNode(window.app.graph._nodes.find(node => node.type === 'DiptychCreate'))
  window.app.extensionManager.command.execute('Comfy.MaskEditor.OpenMaskEditor')
}"""


@pytest.fixture(scope="module")
def titles(comfy):
    """The early filter's workflow is run in Nodes 2.0; the titles of the browser's tab meanwhile."""
    comfy.use_nodes_2(True)
    comfy.drop(json.loads((WORKFLOWS / "icedit_early_filter.json").read_text(encoding="utf-8")))
    comfy.set(SHORT)
    return comfy.run()


@pytest.fixture
def filtered(comfy, titles):
    """The page after that run, nothing pinned, drawn classically."""
    if comfy.node(FILTER)["widgets"]["candidates"] == 1:
        comfy.press(FILTER, PIN)
        comfy.choose("Unpin")
    comfy.use_nodes_2(False)
    return comfy


def shown(comfy, kind):
    return comfy.evaluate(OUTPUT, comfy.node(kind)["id"])


def saved_picture(server, entry) -> np.ndarray:
    return np.asarray(Image.open(server.output / entry["subfolder"] / entry["filename"]).convert("RGB"))


def queued(server, prompt) -> dict[str, str]:
    """Run a prompt over the API; the one picture that it saves."""

    async def run():
        async with ComfyClient(server.url) as client:
            return await client.run(prompt)

    # Playwright keeps this thread's event loop.
    with ThreadPoolExecutor() as threads:
        result = threads.submit(asyncio.run, run()).result()
    (picture,) = (picture for picture in result.pictures if picture.kind == "output")
    return {"subfolder": picture.subfolder, "filename": picture.filename}


def settings(comfy):
    widgets = comfy.node(FILTER)["widgets"]
    return {name: widgets[name] for name in ("seed", "candidates", "keep", "mode", "control_after_generate")}


def test_a_run_shows_progress_the_previews_the_slider_and_the_result(comfy, titles):
    assert len({title for title in titles if "%" in title}) > 2, titles
    for kind, count in ((FILTER, 3), ("SaveImage", 1), ("ImageCompare", 2)):
        widths = comfy.evaluate(WIDTHS, comfy.node(kind)["id"])
        assert len(widths) == count and min(widths) > 0, kind
    assert "winner" in shown(comfy, FILTER)["icedit_candidates"][0]["lines"]


@pytest.mark.parametrize("nodes_2", [True, False], ids=["Nodes 2.0", "canvas"])
def test_the_menu_begins_with_the_picture_that_is_open(filtered, nodes_2):
    comfy = filtered
    comfy.evaluate(CLOSE, comfy.node(FILTER)["id"])
    comfy.use_nodes_2(nodes_2)
    seeds = [candidate["seed"] for candidate in shown(comfy, FILTER)["icedit_candidates"]]
    assert [entry.split(",")[0] for entry in comfy.press(FILTER, PIN)] == [f"Pin seed {seed}" for seed in seeds]
    comfy.close_menu()
    comfy.open_preview(FILTER, 2)
    entries = [entry.split(",")[0] for entry in comfy.press(FILTER, PIN)]
    assert entries == [f"Pin the opened picture's seed {seeds[2]}", f"Pin seed {seeds[0]}", f"Pin seed {seeds[1]}"]
    comfy.close_menu()
    before = shown(comfy, FILTER)
    later = [image | {"filename": f"later {image['filename']}"} for image in before["images"]]
    comfy.evaluate(SHOW, [comfy.node(FILTER)["id"], before | {"images": later}])
    assert comfy.press(FILTER, PIN)[0].startswith(f"Pin seed {seeds[0]}"), "it was opened in an earlier run"
    comfy.close_menu()
    comfy.evaluate(SHOW, [comfy.node(FILTER)["id"], before])


def test_a_pinned_candidate_becomes_what_ksampler_makes_of_its_seed(filtered, server):
    comfy = filtered
    before = settings(comfy)
    second = shown(comfy, FILTER)["icedit_candidates"][1]["seed"]
    comfy.press(FILTER, PIN)
    comfy.choose(f"seed {second}")
    pinned = {"seed": int(second), "candidates": 1, "keep": 1, "mode": "resume", "control_after_generate": "fixed"}
    assert settings(comfy) == pinned

    prompt = comfy.prompt()
    comfy.run()
    assert settings(comfy) == pinned
    ((key, sampler),) = ((key, node) for key, node in prompt.items() if node["class_type"] == FILTER)
    prompt[key] = {"class_type": "KSampler", "inputs": {name: sampler["inputs"][name] for name in KSAMPLER}}
    prompt = {key: node for key, node in prompt.items() if node["class_type"] != "PreviewAny"}

    ours = saved_picture(server, shown(comfy, "SaveImage")["images"][0])
    assert ours.std() > 1
    assert np.array_equal(ours, saved_picture(server, queued(server, prompt)))

    # The node now shows one candidate, the menu still offers all.
    assert len(comfy.press(FILTER, PIN)) == 4
    comfy.choose("Unpin")
    assert settings(comfy) == before


def test_a_pin_is_saved_with_the_workflow(filtered):
    comfy = filtered
    before = settings(comfy)
    comfy.press(FILTER, PIN)
    comfy.choose("Pin seed")
    content = comfy.evaluate("() => window.app.graph.serialize()")
    comfy.drop(content)
    comfy.use_nodes_2(True)
    assert comfy.press(FILTER, PIN)[0] == "Unpin: try 3 candidates again"
    comfy.choose("Unpin")
    assert settings(comfy) == before


def test_what_cannot_be_pinned_is_refused(filtered):
    comfy = filtered
    before = settings(comfy)
    comfy.evaluate(
        """() => {
          const node = window.app.graph._nodes.find(node => node.type === 'EarlyFilterSampler')
          const candidates = [{ seed: '18446744073709551615', lines: [] }]
          window.app.nodeOutputs[node.id] = { icedit_candidates: candidates }
        }"""
    )
    comfy.press(FILTER, PIN)
    comfy.choose("Pin seed 18446744073709551615")
    assert comfy.page.get_by_text("larger than the page's numbers can be").count()
    assert settings(comfy) == before


def test_a_workflow_cannot_put_html_into_the_menu(filtered):
    comfy = filtered
    content = comfy.evaluate("() => window.app.graph.serialize()")
    (node,) = (node for node in content["nodes"] if node["type"] == FILTER)
    attack = "<img src=x onerror='window.attacked = true'>"
    pin = {"seed": attack, "before": {"candidates": attack}, "candidates": [{"seed": attack, "lines": [attack]}]}
    node["properties"]["icedit_pinned"] = pin
    comfy.drop(content)
    assert attack in comfy.press(FILTER, PIN)[0]
    comfy.close_menu()
    assert comfy.evaluate("() => window.attacked === undefined")
    node["properties"]["icedit_pinned"] = "something else"
    comfy.drop(content)
    assert "Unpin" not in comfy.press(FILTER, PIN)[0]


def test_what_is_painted_on_the_picture_alone_changes(comfy, server):
    comfy.use_nodes_2(False)
    comfy.drop(json.loads((WORKFLOWS / "icedit.json").read_text(encoding="utf-8")))
    comfy.set({"DiptychCreate": {"panel_width": 128}, "KSampler": {"steps": 2}})
    comfy.page.wait_for_timeout(1000)
    comfy.evaluate(MASK_EDITOR)
    canvas = comfy.page.locator("canvas.z-30")
    canvas.wait_for()
    comfy.page.wait_for_timeout(1500)
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    comfy.page.mouse.move(x - 80, y - 80)
    comfy.page.mouse.down()
    for row in range(-80, 81, 20):
        comfy.page.mouse.move(x - 80, y + row, steps=5)
        comfy.page.mouse.move(x + 80, y + row, steps=5)
    comfy.page.mouse.up()
    comfy.page.get_by_role("button", name="Save").last.click()
    canvas.wait_for(state="detached")
    comfy.run()
    source = np.asarray(Image.open(server.folder / "input" / "example.png").convert("RGB"))
    changed = (saved_picture(server, shown(comfy, "SaveImage")["images"][0]) != source).any(-1)
    height, width = changed.shape
    assert changed[height // 2, width // 2]
    changed[height // 4 : -height // 4, width // 4 : -width // 4] = False
    assert not changed.any()


# SAM 3 is too large for a test.
@pytest.mark.parametrize(
    "path", [path for path in PAGE_WORKFLOWS if path.stem != "icedit_say_where"], ids=lambda path: path.name
)
def test_what_a_run_adds_to_nodes_has_its_room(comfy, server, path):
    need_for(path)
    # The folder that the workflow for training names.
    write_pairs(server.folder / "input" / "my_edit", 10)
    content = json.loads(path.read_text(encoding="utf-8"))
    comfy.use_nodes_2(True)
    comfy.drop(content)
    comfy.set(SHORT)
    comfy.run()
    assert crowded(comfy.nodes(), content["groups"]) == []
    widths = [width for node in comfy.nodes() for width in comfy.evaluate(WIDTHS, node["id"])]
    assert widths and min(widths) > 0, "a picture is missing"
    comfy.use_nodes_2(False)
    assert crowded(comfy.nodes(), content["groups"]) == []


def test_an_example_is_written_into_the_instruction(comfy):
    comfy.use_nodes_2(False)
    comfy.drop(json.loads((WORKFLOWS / "icedit.json").read_text(encoding="utf-8")))
    entries = comfy.press("InContextEditInstruction", "Examples")
    assert len(entries) >= 8
    comfy.choose("Style: ")
    (style,) = (entry.split(": ", 1)[1] for entry in entries if entry.startswith("Style: "))
    (node,) = (node for node in comfy.prompt().values() if node["class_type"] == "InContextEditInstruction")
    assert node["inputs"]["editText"] == style
    assert comfy.failures == []
