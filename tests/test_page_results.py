"""What the page does with pictures: pinning a cell of a grid, editing a result further, opening what one carries."""

import base64
import json

import pytest
from support.workflows import WORKFLOWS

pytestmark = pytest.mark.server

VARIATIONS, GRID, RESULT, LOADER = "EditVariations", "EditGrid", "DecodeRightHalf", "DiptychCreate"
LINES = ["make it red", "make it blue"]
SHORT = {
    LOADER: {"panel_width": 128},
    "KSampler": {"steps": 2},
    VARIATIONS: {"instructions": "\n".join(LINES), "seed": 5, "seeds": 2},
}
CELLS = [f"“{line}”, seed {seed}" for line in LINES for seed in (5, 6)]
OUTPUT = "id => window.app.nodeOutputs[id]"
OUTPUTS = "() => window.app.nodeOutputs"
SHOW_AGAIN = "outputs => Object.assign(window.app.nodeOutputs, outputs)"
LOADED = """([kind, name]) => {
  const node = window.app.graph._nodes.find(node => node.type === kind)
  return node.widgets.find(widget => widget.name === 'image').value === name
}"""

DROP_PICTURE = """([name, encoded]) => {
  const content = Uint8Array.from(atob(encoded), letter => letter.charCodeAt(0))
  const data = new DataTransfer()
  data.items.add(new File([content], name, { type: 'image/webp' }))
  const place = { dataTransfer: data, bubbles: true, cancelable: true, clientX: 1500, clientY: 950 }
  const canvas = document.querySelector('#graph-canvas')
  for (const event of ['dragenter', 'dragover', 'drop']) canvas.dispatchEvent(new DragEvent(event, place))
}"""


@pytest.fixture(scope="module")
def grid(comfy):
    """The workflow with a grid, after a run in Nodes 2.0."""
    comfy.use_nodes_2(True)
    comfy.drop(json.loads((WORKFLOWS / "icedit_grid.json").read_text(encoding="utf-8")))
    comfy.set(SHORT)
    comfy.run()
    # The page knows its canvas from the pointer, and its menus with many entries need it.
    comfy.page.mouse.click(1500, 950)
    return comfy


def values(comfy, kind, *names):
    widgets = comfy.node(kind)["widgets"]
    return [widgets[name] for name in names]


@pytest.mark.parametrize("nodes_2", [True, False], ids=["Nodes 2.0", "canvas"])
def test_a_pinned_cell_is_the_only_one_that_is_run(grid, nodes_2):
    grid.use_nodes_2(nodes_2)
    names = ("instructions", "seed", "seeds", "control_after_generate")
    before = values(grid, VARIATIONS, *names)
    assert grid.press(GRID, "Pin a cell") == CELLS
    grid.choose(CELLS[3])
    assert values(grid, VARIATIONS, *names) == ["make it blue", 6, 1, "fixed"]
    assert grid.press(GRID, "Pin a cell") == ["Unpin: all cells again", *CELLS]
    grid.choose("Unpin")
    assert values(grid, VARIATIONS, *names) == before


@pytest.mark.parametrize("nodes_2", [True, False], ids=["Nodes 2.0", "canvas"])
def test_a_result_is_edited_further_and_the_turns_before_it_are_kept(grid, server, nodes_2):
    grid.use_nodes_2(nodes_2)
    assert grid.press(RESULT, "Next source") == [f"Edit {cell} further" for cell in CELLS]
    (preview,) = (node["id"] for node in grid.nodes() if node["type"] == "PreviewImage")
    shown = grid.evaluate(OUTPUT, preview)["images"][3]
    grid.choose(CELLS[3])
    grid.page.wait_for_function(LOADED, arg=[LOADER, shown["filename"]], timeout=10000)
    copied = server.folder / "input" / shown["filename"]
    assert copied.read_bytes() == (server.folder / shown["type"] / shown["subfolder"] / shown["filename"]).read_bytes()
    grid.set({VARIATIONS: {"instructions": "make it green"}})
    # Saved and opened again, it is still there.
    outputs = grid.evaluate(OUTPUTS)
    grid.drop(grid.evaluate("() => window.app.graph.serialize()"))
    grid.evaluate(SHOW_AGAIN, outputs)
    queued = {node["class_type"]: node["inputs"] for node in grid.prompt().values()}
    assert queued[LOADER]["image"] == shown["filename"]
    grid.press(RESULT, "Next source")
    grid.choose("Back to turn 1: example.png")
    assert values(grid, LOADER, "image") == ["example.png"]
    assert values(grid, VARIATIONS, "instructions") == ["\n".join(LINES)]
    assert grid.failures == []


def test_a_dropped_picture_opens_the_workflow_that_it_carries(comfy):
    content = json.loads((WORKFLOWS / "icedit_multi_turn.json").read_text(encoding="utf-8"))
    comfy.evaluate("() => window.app.graph.clear()")
    encoded = base64.b64encode((WORKFLOWS / "icedit_multi_turn.webp").read_bytes()).decode()
    comfy.evaluate(DROP_PICTURE, ["turns.webp", encoded])
    comfy.page.wait_for_function(
        "count => window.app.graph._nodes.length === count", arg=len(content["nodes"]), timeout=20000
    )
    titles = {node.get("title") for node in content["nodes"]} - {None}
    assert titles <= set(comfy.evaluate("() => window.app.graph._nodes.map(node => node.title)"))
