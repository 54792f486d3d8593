"""The real ComfyUI page in a real browser. Needs Chromium; skipped where none is installed."""

import json
import shutil

import pytest
from support.workflows import PAGE_WORKFLOWS, WORKFLOWS

pytestmark = pytest.mark.server

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
DROP = """text => {
  const data = new DataTransfer()
  data.items.add(new File([text], 'workflow.json', { type: 'application/json' }))
  const canvas = document.querySelector('#graph-canvas')
  const place = { dataTransfer: data, bubbles: true, cancelable: true, clientX: 600, clientY: 500 }
  for (const name of ['dragenter', 'dragover', 'drop']) canvas.dispatchEvent(new DragEvent(name, place))
}"""
NODES = """() => window.app.graph._nodes.map(node => ({
  type: node.type,
  known: node.constructor.nodeData !== undefined || node.isVirtualNode === true || node.isSubgraphNode?.() === true,
  bounds: Array.from(node.boundingRect ?? node.getBounding()),
  widgets: Object.fromEntries((node.widgets ?? []).map(widget => [widget.name, widget.value])),
}))"""


@pytest.fixture(scope="module")
def page(server):
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        page = browser.new_page(viewport={"width": 1900, "height": 1000})
        page.goto(server.url)
        page.wait_for_function("() => window.app?.graph", timeout=60000)
        page.wait_for_timeout(3000)
        page.keyboard.press("Escape")
        yield page
        browser.close()


def drop(page, content: dict) -> list[dict]:
    """Drop a workflow file onto the canvas; the nodes that are there then."""
    page.evaluate("() => window.app.graph.clear()")
    page.evaluate(DROP, json.dumps(content))
    page.wait_for_function(
        "count => window.app.graph._nodes.length === count", arg=len(content["nodes"]), timeout=20000
    )
    page.wait_for_timeout(500)
    page.keyboard.press("Escape")
    return page.evaluate(NODES)


def overlap(a, b) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


@pytest.mark.parametrize("path", PAGE_WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_opens_whole(page, path):
    content = json.loads(path.read_text(encoding="utf-8"))
    nodes = drop(page, content)
    assert [node["type"] for node in nodes if not node["known"]] == []
    for first in range(len(nodes)):
        for second in range(first):
            assert not overlap(nodes[first]["bounds"], nodes[second]["bounds"]), (nodes[first], nodes[second])


@pytest.mark.parametrize(
    "path", [path for path in PAGE_WORKFLOWS if (WORKFLOWS / "api" / path.name).exists()], ids=lambda path: path.name
)
def test_the_page_queues_what_its_api_twin_says(page, path):
    content = json.loads(path.read_text(encoding="utf-8"))
    drop(page, content)
    queued = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    twin = json.loads((WORKFLOWS / "api" / path.name).read_text(encoding="utf-8"))
    shared = set(queued) & set(twin)
    assert {queued[key]["class_type"] for key in set(queued) - shared} <= {"ImageCompare", "PreviewImage", "PreviewAny"}
    assert {twin[key]["class_type"] for key in set(twin) - shared} <= {"ImageStitch", "SaveImage"}
    for key in shared:
        assert queued[key]["class_type"] == twin[key]["class_type"]
        assert queued[key]["inputs"] == twin[key]["inputs"], f"node {key} ({twin[key]['class_type']})"


def test_the_turn_is_in_the_node_library_and_works_when_added(page):
    """Added as the library does it; two of them keep their own words."""
    added = page.evaluate(
        """name => {
          window.app.graph.clear()
          const stores = document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia._s
          const library = stores.get('subgraph')
          const found = library.subgraphBlueprints.find(blueprint => blueprint.display_name === name)
          for (const left of [0, 500]) {
            const { nodes, definitions } = library.getBlueprint(found.name)
            window.app.canvas._deserializeItems({ nodes, subgraphs: definitions.subgraphs }, { position: [left, 0] })
          }
          const [first, second] = window.app.graph._nodes
          const words = second.widgets.find(widget => widget.name === 'instruction')
          words.value = 'other words'
          words.callback?.(words.value)
          return { aliases: found.search_aliases, description: found.description }
        }""",
        "Image Edit Turn (ICEdit)",
    )
    assert "ICEdit" in added["aliases"]
    assert "keeps its very pixels" in added["description"]
    queued = page.evaluate("async () => (await window.app.graphToPrompt()).output").values()
    texts = [node["inputs"]["editText"] for node in queued if node["class_type"] == "InContextEditInstruction"]
    assert sorted(texts) == ["make her hair dark green", "other words"]
    assert {node["inputs"]["restore"] for node in queued if node["class_type"] == "CropRightHalf"} == {"blend"}


def test_a_workflow_of_the_earlier_official_pack_opens_with_our_defaults(page):
    node = {
        "id": 2, "type": "DiptychCreate", "pos": [100, 100], "size": [315, 314], "flags": {}, "order": 0, "mode": 0,
        "inputs": [], "outputs": [], "properties": {}, "widgets_values": ["32.png", "image"],
    }  # fmt: skip
    graph = {
        "last_node_id": 2, "last_link_id": 0, "nodes": [node], "links": [], "groups": [], "config": {}, "extra": {},
        "version": 0.4,
    }  # fmt: skip
    (opened,) = drop(page, graph)
    assert opened["widgets"]["image"] == "32.png"
    assert opened["widgets"]["panel_width"] == 512
    assert opened["widgets"]["right_panel"] == "copy"
