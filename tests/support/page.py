"""The ComfyUI page as a user has it before them: files dropped, buttons pressed, menus read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .browser import BROWSER, FLAGS

DROP = """([name, text]) => {
  const data = new DataTransfer()
  data.items.add(new File([text], name, { type: 'application/json' }))
  const canvas = document.querySelector('#graph-canvas')
  const place = { dataTransfer: data, bubbles: true, cancelable: true, clientX: 600, clientY: 500 }
  for (const name of ['dragenter', 'dragover', 'drop']) canvas.dispatchEvent(new DragEvent(name, place))
}"""
ROOM = 60
"""What a node may grow by, unasked: two rows of widgets, or a line of text."""
NODES = """() => {
  const all = graph => graph._nodes.flatMap(node => [node, ...(node.subgraph ? all(node.subgraph) : [])])
  return all(window.app.graph).map(node => ({
    id: String(node.id),
    type: node.type,
    top: node.graph === window.app.graph,
    known: node.constructor.nodeData !== undefined || node.isVirtualNode === true || node.isSubgraphNode?.() === true,
    bounds: Array.from(node.boundingRect ?? node.getBounding()),
    widgets: Object.fromEntries((node.widgets ?? []).map(widget => [widget.name, widget.value])),
    saved: node.serialize().widgets_values ?? [],
  }))
}"""
SET = """values => {
  for (const node of window.app.graph._nodes)
    for (const widget of node.widgets ?? []) {
      const value = values[node.type]?.[widget.name]
      if (value !== undefined) widget.value = value
    }
}"""
RUN = """() => {
  window.seen = { titles: [], end: null }
  new MutationObserver(() => window.seen.titles.push(document.title))
    .observe(document.querySelector('title'), { childList: true, characterData: true, subtree: true })
  for (const end of ['execution_success', 'execution_error', 'execution_interrupted'])
    window.app.api.addEventListener(end, ({ detail }) => (window.seen.end ??= [end, detail]), { once: true })
}"""

PREVIEW = """([id, number]) => {
  const node = window.app.graph.getNodeById(id)
  const [x, y, width, height] = node.imageRects[number]
  const { offset, scale } = window.app.canvas.ds
  const box = document.querySelector('#graph-canvas').getBoundingClientRect()
  const at = [node.pos[0] + x + width / 2, node.pos[1] + y + height / 2]
  return at.map((value, axis) => [box.x, box.y][axis] + (value + offset[axis]) * scale)
}"""


class ComfyPage:
    """The page in a browser; `page` is playwright's."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.failures: list[str] = []
        self.dropped = 0
        page.on("pageerror", lambda error: self.failures.append(str(error)))
        # Where it is not set, the page opens its templates over everything, sooner or later.
        page.request.post(f"{url}/settings/Comfy.TutorialCompleted", data=True)
        page.goto(url)
        page.wait_for_function("() => window.app?.graph", timeout=60000)
        page.wait_for_timeout(3000)
        page.keyboard.press("Escape")

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def use_nodes_2(self, on: bool) -> None:
        """Draw nodes as elements of the page, or classically on the canvas."""
        setting = "Comfy.VueNodes.Enabled"
        if self.evaluate("id => window.app.extensionManager.setting.get(id)", setting) is on:
            return
        self.evaluate("([id, on]) => window.app.extensionManager.setting.set(id, on)", [setting, on])
        self.page.wait_for_timeout(1500)

    def drop(self, content: dict[str, Any]) -> list[dict[str, Any]]:
        """Drop a workflow file or a prompt onto the canvas; the nodes that are there then, those in subgraphs too."""
        self.evaluate("() => window.app.graph.clear()")
        # A page takes a second file of one name for the first one, and shows that one's pictures on its nodes.
        self.dropped += 1
        self.evaluate(DROP, [f"workflow {self.dropped}.json", json.dumps(content)])
        self.page.wait_for_function(
            "count => window.app.graph._nodes.length === count", arg=len(content.get("nodes", content)), timeout=20000
        )
        self.page.wait_for_timeout(500)
        self.page.keyboard.press("Escape")
        return self.nodes()

    def nodes(self) -> list[dict[str, Any]]:
        return self.evaluate(NODES)

    def node(self, kind: str) -> dict[str, Any]:
        (node,) = (node for node in self.nodes() if node["type"] == kind)
        return node

    def set(self, values: dict[str, dict[str, Any]]) -> None:
        """Set widgets: {node type: {widget: value}}."""
        self.evaluate(SET, values)

    def prompt(self) -> dict[str, Any]:
        """What the page would queue."""
        return self.evaluate("async () => (await window.app.graphToPrompt()).output")

    def run(self) -> list[str]:
        """Press Run and wait for the end; the browser tab's titles on the way, which show the progress."""
        self.evaluate(RUN)
        self.page.click("[data-testid='queue-button']")
        self.page.wait_for_function("() => window.seen.end", timeout=240000)
        seen = self.evaluate("() => window.seen")
        assert seen["end"][0] == "execution_success", seen["end"]
        self.page.wait_for_timeout(1500)
        return seen["titles"]

    def press(self, kind: str, button: str) -> list[str]:
        """Press a button of the one node of this kind; the entries of the menu that opens."""
        node, label, x, y = self.evaluate(
            """([kind, name]) => {
              const node = window.app.graph._nodes.find(node => node.type === kind)
              window.app.canvas.centerOnNode(node)
              const button = node.widgets.find(widget => widget.name === name)
              const { offset, scale } = window.app.canvas.ds
              const at = [node.pos[0] + node.size[0] / 2, node.pos[1] + (button.y ?? 0) + 10]
              return [node.id, button.label ?? button.name, ...at.map((value, axis) => (value + offset[axis]) * scale)]
            }""",
            [kind, button],
        )
        # The page moves the nodes with the next frame.
        self.page.wait_for_timeout(200)
        element = self.page.locator(f"[data-node-id='{node}'] button", has_text=label)
        if element.count():
            element.first.click()
        else:
            box = self.page.locator("#graph-canvas").bounding_box()
            self.page.mouse.click(box["x"] + x, box["y"] + y)
        return self.menu()

    def open_preview(self, kind: str, number: int) -> None:
        """Click the picture of this number, from 0, among the previews of the one node of this kind."""
        node = self.node(kind)["id"]
        self.evaluate("id => window.app.canvas.centerOnNode(window.app.graph.getNodeById(id))", node)
        self.page.wait_for_timeout(500)
        picture = self.page.locator(f"[data-node-id='{node}'] [data-testid='image-grid'] button").nth(number)
        if self.evaluate("() => window.LiteGraph.vueNodesMode"):
            picture.click()
            self.page.locator(f"[data-node-id='{node}'] [data-testid='main-image']").wait_for()
            self.page.wait_for_timeout(500)
            return
        self.page.mouse.move(*self.evaluate(PREVIEW, [node, number]))
        # The canvas takes the press and its end from what it sees when it is drawn.
        for act in (self.page.mouse.down, self.page.mouse.up):
            self.page.wait_for_timeout(300)
            act()
        self.page.wait_for_timeout(300)

    def menu(self) -> list[str]:
        """The entries of the menu that is open, its title left out."""
        self.page.wait_for_selector(".litecontextmenu")
        return self.page.locator(".litecontextmenu .litemenu-entry").all_inner_texts()

    def close_menu(self) -> None:
        """Press beside the open menu."""
        self.page.mouse.click(1000, 990)
        self.page.wait_for_selector(".litecontextmenu", state="detached")

    def choose(self, entry: str) -> None:
        """Choose an entry of the open menu."""
        self.page.locator(".litecontextmenu .litemenu-entry", has_text=entry).first.click()
        self.page.wait_for_timeout(300)


@contextmanager
def comfy_page(url: str) -> Iterator[ComfyPage]:
    """The page in a browser of its own; skips the test where none is installed."""
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield ComfyPage(browser.new_page(viewport={"width": 1900, "height": 1000}), url)
        browser.close()


def crowded(nodes: list[dict[str, Any]], frames: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of nodes of which one has no room to grow above the other, and of frames with a node that sticks out.

    Subgraphs are not looked into.
    """
    grown = [(node["type"], [*node["bounds"][:3], node["bounds"][3] + ROOM]) for node in nodes if node["top"]]
    boxes = [(frame["title"], frame["bounding"]) for frame in frames]
    pairs = [(a, b) for group in (grown, boxes) for index, a in enumerate(group) for b in group[:index]]
    on_each_other = [(a, b) for (a, first), (b, second) in pairs if _overlap(first, second)]
    sticking_out = [(a, b) for a, box in grown for b, frame in boxes if _overlap(box, frame) and not _in(box, frame)]
    return on_each_other + sticking_out


def _overlap(a: list[float], b: list[float]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _in(a: list[float], b: list[float]) -> bool:
    return all(b[axis] <= a[axis] and a[axis] + a[axis + 2] <= b[axis] + b[axis + 2] for axis in (0, 1))
