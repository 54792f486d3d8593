"""Choosing a candidate in the real ComfyUI page by mouse and keys, in both ways of drawing nodes."""

import itertools
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from support.pack import PACK
from support.workflows import WORKFLOWS

pytestmark = pytest.mark.server

FILTER = "EarlyFilterSampler"
SMALL = {
    "DiptychCreate": {"panel_width": 128},
    FILTER: {
        "control_after_generate": "randomize", "steps": 4, "candidates": 3, "probe_steps": 1, "choose": "me",
    },
}  # fmt: skip
RADIO = ".icedit-pick [role='radio']"


SEEDS = itertools.count(11, 10)


def output(comfy, kind):
    return comfy.evaluate("id => window.app.nodeOutputs[id] ?? {}", comfy.node(kind)["id"])


def saved(comfy, server):
    """The picture that this run has saved, None where it has not."""
    images = output(comfy, "SaveImage").get("images")
    if not images:
        return None
    path = server.output / images[0]["subfolder"] / images[0]["filename"]
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def spent(comfy):
    return json.loads(output(comfy, "PreviewAny")["text"][0])["evaluations"]["spent"]


def files(server):
    return len(list(server.output.rglob("*.png")))


@pytest.fixture
def shown(comfy, server, request):
    """The page after a first run, in Nodes 2.0 or on the canvas: three candidates, nothing saved."""
    shutil.copy(PACK / "headless" / "astronaut.jpg", server.folder / "input" / "example.png")
    before = files(server)
    comfy.use_nodes_2(request.param)
    comfy.drop(json.loads((WORKFLOWS / "icedit_early_filter.json").read_text(encoding="utf-8")))
    # Other seeds each time: the server remembers what it has done.
    comfy.set(SMALL | {FILTER: SMALL[FILTER] | {"seed": next(SEEDS)}})
    comfy.run()
    assert files(server) == before
    return comfy


def picked(comfy):
    return comfy.node(FILTER)["widgets"]["picked"]


def seeds(comfy):
    return [candidate["seed"] for candidate in output(comfy, FILTER)["icedit_candidates"]]


NOTE = """kind => {
  const { widgets } = window.app.graph._nodes.find(node => node.type === kind)
  const ours = widgets.find(widget => widget.name === 'icedit_note')
  return ours?.element.textContent ?? widgets.find(widget => widget.name === '$$node-text-preview')?.value ?? ''
}"""


def note(comfy):
    """What the sampler tells the user on itself."""
    return comfy.evaluate(NOTE, FILTER)


def checked(comfy):
    return [radio.get_attribute("data-seed") for radio in comfy.page.locator(f"{RADIO}[aria-checked='true']").all()]


def check_keys(comfy):
    """From the first of three candidates on, with nothing picked before and after."""
    first, second, third = seeds(comfy)
    nodes = len(comfy.nodes())
    comfy.page.locator(RADIO).first.focus()
    for key, pick in (
        ("ArrowRight", second), ("ArrowLeft", first), ("ArrowLeft", third), ("2", second), ("Home", first),
        ("End", third), ("Delete", None),
    ):  # fmt: skip
        comfy.page.keyboard.press(key)
        assert checked(comfy) == ([pick] if pick else [])
    # Keys that the page has for its own are not pressed on the page.
    assert (picked(comfy), len(comfy.nodes())) == ("", nodes)


def check_clicks(comfy):
    """The second one is picked afterwards."""
    comfy.page.locator(RADIO).first.click()
    comfy.page.locator(".icedit-pick > button").click()
    assert (picked(comfy), checked(comfy)) == ("", [])
    second = seeds(comfy)[1]
    comfy.page.locator(RADIO).nth(1).click()
    assert (picked(comfy).split(" of ")[0], checked(comfy)) == (second, [second])


@pytest.mark.parametrize("shown", [True], indirect=True, ids=["Nodes 2.0"])
def test_a_click_and_run_finish_that_candidate(shown, server):
    comfy = shown
    before = seeds(comfy)
    assert (spent(comfy), checked(comfy)) == (3, [])
    assert "Click a candidate" in note(comfy)
    widths = comfy.evaluate(f"() => [...document.querySelectorAll(`{RADIO} img`)].map(image => image.naturalWidth)")
    assert len(widths) == 3 and min(widths) > 0
    check_keys(comfy)
    check_clicks(comfy)
    comfy.run()
    # Its three steps that were left, and one to see whether the model is still the same.
    assert (spent(comfy), saved(comfy, server).std() > 1) == (4, True)
    assert note(comfy) == ""
    # The page's control has changed the seed at the widget, and the choice is still among the same.
    assert seeds(comfy) == before
    assert comfy.page.locator(f"{RADIO}[data-finished='true']").get_attribute("data-seed") == before[1]
    # Where the judge chooses again, its previews are shown as ever.
    comfy.evaluate(
        "() => window.app.graph._nodes.find(n => n.type === 'EarlyFilterSampler').onExecuted({ images: [] })"
    )
    assert comfy.page.locator(".icedit-pick").count() == 0


@pytest.mark.parametrize("shown", [False], indirect=True, ids=["canvas"])
def test_a_pick_is_saved_with_the_workflow_and_ends_with_other_inputs(shown, server):
    comfy = shown
    check_keys(comfy)
    check_clicks(comfy)
    pick, before = picked(comfy), files(server)
    # As after the page is opened anew.
    comfy.drop(comfy.evaluate("() => window.app.graph.serialize()"))
    assert picked(comfy) == pick
    comfy.run()
    assert (spent(comfy), checked(comfy), files(server)) == (4, [seeds(comfy)[1]], before + 1)
    comfy.set({"InContextEditInstruction": {"editText": f"make it {pick}"}})
    comfy.run()
    assert (picked(comfy), checked(comfy), spent(comfy), files(server)) == ("", [], 3, before + 1)


def test_what_a_workflow_holds_is_no_html(comfy):
    comfy.drop(json.loads((WORKFLOWS / "icedit_early_filter.json").read_text(encoding="utf-8")))
    attack = "<img src=x onerror='window.attacked = true'>"
    comfy.evaluate(
        """text => {
          const node = window.app.graph._nodes.find(node => node.type === 'EarlyFilterSampler')
          node.onExecuted({
            icedit_pick: [{ asked: '', inputs: text, picks: [null], finished: false }],
            icedit_candidates: [{ seed: text, lines: [text], picture: 0, picked: false, image: { filename: text } }]
          })
        }""",
        attack,
    )
    assert attack in comfy.page.locator(RADIO).inner_text()
    assert comfy.evaluate("() => window.attacked === undefined")
    assert comfy.failures == []
