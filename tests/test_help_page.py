"""The help in the real page: in its language, with its picture. Needs Chromium; skipped where none is installed."""

import pytest
from support.browser import BROWSER, FLAGS
from support.help_pages import HEADINGS, LOCALES, Page, page_path, schemas

pytestmark = pytest.mark.server

NODE = "DiptychCreate"
INPUTS = [port.id for port in schemas()[NODE].inputs]
SPEAK = """async locale => {
  await window.app.extensionManager.setting.set('Comfy.Locale', locale)
  // Else a first start opens the template browser, at some time, over everything.
  await window.app.extensionManager.setting.set('Comfy.TutorialCompleted', true)
}"""
TITLE = (400, 186)
"""A point of the node's title where ADD puts it."""
ADD = """kind => {
  window.app.graph.clear()
  const node = window.LiteGraph.createNode(kind)
  node.pos = [300, 200]
  window.app.graph.add(node)
  window.app.canvas.ds.scale = 1
  window.app.canvas.ds.offset = [0, 0]
  return {
    title: node.title,
    inputs: Object.fromEntries(node.inputs.map(slot => [slot.name, slot.label ?? slot.localized_name])),
    outputs: node.outputs.map(slot => slot.label ?? slot.localized_name ?? slot.name),
  }
}"""
PICTURES = """() => {
  const images = [...document.querySelectorAll('.node-help-content img')]
  return images.length > 0 && images.every(image => image.complete && image.naturalWidth > 0)
}"""


@pytest.fixture(scope="module")
def page(server):
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        page = browser.new_page(viewport={"width": 1900, "height": 1000})
        page.goto(server.url)
        opened(page)
        yield page
        # The server is others' too, and remembers.
        page.evaluate(SPEAK, "en")
        browser.close()


def opened(page):
    page.wait_for_function("() => window.app?.graph && window.app.extensionManager", timeout=60000)
    page.wait_for_timeout(3000)
    page.keyboard.press("Escape")


def info_button(page):
    """Selects the node; a page that is still drawing it misses the click, so a user would click again."""
    button = page.get_by_test_id("info-button")
    for _ in range(10):
        page.wait_for_timeout(1000)
        page.mouse.click(*TITLE)
        page.wait_for_timeout(1000)
        if button.count():
            break
    return button


@pytest.mark.parametrize("locale", LOCALES)
def test_a_node_and_its_help_speak_the_language_of_the_page(page, locale):
    page.evaluate(SPEAK, locale)
    page.reload()
    opened(page)
    written = Page.read(page_path(NODE, locale))
    inputs, outputs, _ = HEADINGS[locale]

    node = page.evaluate(ADD, NODE)
    assert node["title"] == written.title
    rows = {row[0].split("`")[1]: row[0].split("`")[0].strip() for row in written.rows(inputs)}
    assert list(rows) == INPUTS
    assert {name: node["inputs"][name] for name in rows} == {name: shown or name for name, shown in rows.items()}
    assert node["outputs"] == [row[0].split("`")[0].strip() or row[0].strip("`") for row in written.rows(outputs)]

    info_button(page).click(timeout=15000)
    page.locator(".node-help-content h1", has_text=written.title).wait_for(timeout=15000)
    assert page.locator(".node-help-content h2").all_inner_texts() == [
        heading.replace("`", "") for heading in written.sections
    ]
    page.wait_for_function(PICTURES, timeout=15000)
