"""The workflow files in the real ComfyUI page in a real browser. Needs Chromium; skipped where none is installed."""

import json

import pytest
from support.hosts import need_for
from support.page import crowded
from support.workflows import PAGE_WORKFLOWS, WORKFLOWS

pytestmark = pytest.mark.server

NOTES = """() => window.app.graph._nodes.filter(node => node.type === 'MarkdownNote').map(note => {
  const onPage = document.querySelector(`[data-node-id='${note.id}'] .comfy-markdown-content`)
  const text = onPage ?? note.widgets[0].element.querySelector('.tiptap')
  return [note.title, text.scrollHeight, text.clientHeight]
})"""
CHOOSE = """([id, name]) => {
  const widget = window.app.graph.getNodeById(id).widgets.find(widget => widget.name === 'image')
  widget.value = name
  widget.callback(name)
}"""
PREVIEWS = "id => document.querySelectorAll(`[data-node-id='${id}'] .image-preview`).length"
THUMBNAIL = """name => document.querySelector(`[data-testid="${name}"] img`)?.naturalWidth === 512"""


def saved_nodes(content):
    inner = [node for sub in content.get("definitions", {}).get("subgraphs", []) for node in sub["nodes"]]
    return [*content["nodes"], *inner]


@pytest.mark.parametrize("path", PAGE_WORKFLOWS, ids=lambda path: path.name)
@pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "nodes 2.0"])
def test_a_workflow_opens_whole(comfy, path, nodes_2):
    need_for(path)
    comfy.use_nodes_2(nodes_2)
    content = json.loads(path.read_text(encoding="utf-8"))
    nodes = comfy.drop(content)
    assert [node["type"] for node in nodes if not node["known"]] == []
    opened = {node["id"]: node["saved"] for node in nodes}
    for node in saved_nodes(content):
        for place, value in enumerate(node["widgets_values"]):
            if value is not None:
                assert opened[str(node["id"])][place] == value, f"widget {place} of {node['type']} {node['id']}"
    assert crowded(nodes, content["groups"]) == []
    notes = comfy.evaluate(NOTES)
    assert notes and min(height for _, _, height in notes) > 0
    assert [note for note in notes if note[1] > note[2]] == [], "a note is longer than its box"


@pytest.mark.parametrize(
    "path", [path for path in PAGE_WORKFLOWS if (WORKFLOWS / "api" / path.name).exists()], ids=lambda path: path.name
)
def test_the_page_queues_what_its_api_twin_says(comfy, path):
    need_for(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    comfy.drop(content)
    queued = comfy.prompt()
    twin = json.loads((WORKFLOWS / "api" / path.name).read_text(encoding="utf-8"))
    shared = set(queued) & set(twin)
    assert {queued[key]["class_type"] for key in set(queued) - shared} <= {"ImageCompare", "PreviewImage", "PreviewAny"}
    assert {twin[key]["class_type"] for key in set(twin) - shared} <= {"ImageStitch", "SaveImage"}
    for key in shared:
        assert queued[key]["class_type"] == twin[key]["class_type"]
        assert queued[key]["inputs"] == twin[key]["inputs"], f"node {key} ({twin[key]['class_type']})"


def test_the_turn_is_in_the_node_library_and_works_when_added(comfy):
    """Added as the library does it; two of them keep their own words."""
    description = comfy.evaluate(
        """name => {
          window.app.graph.clear()
          const stores = document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia._s
          const library = stores.get('subgraph')
          const found = stores.get('nodeDef').visibleNodeDefs.find(node => node.display_name === name)
          for (const left of [0, 500]) {
            const { nodes, definitions } = library.getBlueprint(found.name)
            window.app.canvas._deserializeItems({ nodes, subgraphs: definitions.subgraphs }, { position: [left, 0] })
          }
          const [first, second] = window.app.graph._nodes
          const words = second.widgets.find(widget => widget.name === 'instruction')
          words.value = 'other words'
          words.callback?.(words.value)
          return found.description
        }""",
        "Image Edit Turn (ICEdit)",
    )
    assert "keeps its very pixels" in description
    queued = comfy.prompt().values()
    texts = [node["inputs"]["editText"] for node in queued if node["class_type"] == "InContextEditInstruction"]
    assert sorted(texts) == ["make her hair dark green", "other words"]
    assert {node["inputs"]["restore"] for node in queued if node["class_type"] == "DecodeRightHalf"} == {"blend"}


def test_a_workflow_of_the_earlier_official_pack_opens_with_our_defaults(comfy):
    node = {
        "id": 2, "type": "DiptychCreate", "pos": [100, 100], "size": [315, 314], "flags": {}, "order": 0, "mode": 0,
        "inputs": [], "outputs": [], "properties": {}, "widgets_values": ["32.png", "image"],
    }  # fmt: skip
    graph = {
        "last_node_id": 2, "last_link_id": 0, "nodes": [node], "links": [], "groups": [], "config": {}, "extra": {},
        "version": 0.4,
    }  # fmt: skip
    (opened,) = comfy.drop(graph)
    assert opened["widgets"]["image"] == "32.png"
    assert opened["widgets"]["panel_width"] == 512
    assert opened["widgets"]["right_panel"] == "copy"


@pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "nodes 2.0"])
def test_the_earlier_name_of_a_fit_becomes_the_present_one(comfy, nodes_2):
    """In a workflow file, and in a prompt in the API's format, which the page fills in widget by widget."""
    comfy.use_nodes_2(nodes_2)
    for path in (WORKFLOWS / "icedit.json", WORKFLOWS / "api" / "icedit.json"):
        earlier = path.read_text(encoding="utf-8").replace('"width"', '"width 512"')
        assert '"width 512"' in earlier
        comfy.drop(json.loads(earlier))
        assert comfy.node("DiptychCreate")["widgets"]["fit"] == "width"
        (queued,) = (node for node in comfy.prompt().values() if node["class_type"] == "DiptychCreate")
        assert queued["inputs"]["fit"] == "width"


def test_only_a_chosen_picture_is_shown(comfy):
    """A diptych whose picture is wired has chosen none, which is no file."""
    comfy.use_nodes_2(True)
    comfy.drop(json.loads((WORKFLOWS / "icedit_mixed_sizes.json").read_text(encoding="utf-8")))
    node = comfy.node("DiptychCreate")["id"]
    counts = []
    for name in ("None", "example.png", "None"):
        comfy.evaluate(CHOOSE, [node, name])
        comfy.page.wait_for_timeout(1000)
        counts.append(comfy.evaluate(PREVIEWS, node))
    assert counts == [0, 1, 0]


def test_the_template_browser_shows_and_opens_our_workflows(comfy):
    page = comfy.page
    comfy.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.locator("[role='button']", has_text="comfyui-icedit").click()
    cards = page.locator("[data-testid^='template-workflow-']")
    page.wait_for_function(
        "count => document.querySelectorAll('[data-testid^=\"template-workflow-\"]').length === count",
        arg=len(PAGE_WORKFLOWS),
    )
    names = {card.get_attribute("data-testid") for card in cards.all()}
    assert names == {f"template-workflow-{path.stem}" for path in PAGE_WORKFLOWS}
    for name in sorted(names):
        # The page holds a picture only while its card is in view.
        page.locator(f"[data-testid='{name}']").scroll_into_view_if_needed()
        page.wait_for_function(THUMBNAIL, arg=name)
    page.get_by_test_id("template-workflow-icedit").click()
    page.wait_for_selector("[data-testid^='template-workflow-']", state="detached")
    page.wait_for_timeout(1000)
    content = json.loads((WORKFLOWS / "icedit.json").read_text(encoding="utf-8"))
    assert sorted(node["type"] for node in comfy.nodes()) == sorted(node["type"] for node in content["nodes"])
