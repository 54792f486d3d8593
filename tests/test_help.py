"""Every node explains itself, in every language, and nothing that it says is out of date.

A node `X` needs web/docs/X.md (English), web/docs/X/ko.md, web/docs/X/zh.md, one picture web/docs/images/X.webp that
all three show (`python -m support.help_pictures X` takes it), and its names and tooltips in
locales/{ko,zh}/nodeDefs.json. English names and tooltips are the schema's. A page is:

    # The node's title, in the page's language
    A first sentence that says what it does.
    ![what the picture shows](images/X.webp)
    ## Inputs                           (headings per language: HEADINGS in support/help_pages.py)
    | Input | What it is, when to change it | Range or type | Default |
    ## Outputs
    | Output | What it is |
    ## ... further sections, as you like
    ## When something goes wrong
    | You see | Why | What to do |

One row for each input and output of the schema, in its order, named by its id in code quotes; in translations the
translated name stands before that. Range: `0 - 100` with an en dash for numbers, all options in code quotes for combos,
the type in code quotes for text and for what is wired. Default: in code quotes, an en dash for none, the word for
required or optional for what is wired. What is seen is a symptom in words, or in code quotes a message as the code
says it, with an ellipsis for each value in it. Pictures are found under web/docs, also from a translated page, because
that is where the page looks for them.
"""

import ast
import functools
import json
import re

import pytest
from PIL import Image
from support.help_pages import DOCS, HEADINGS, LOCALES, Page, choices, default, output_name, page_path, schemas

SCHEMAS = schemas()
PACK = DOCS.parents[1]
LARGEST_PICTURE = 60_000
NOT_NODES = {"tests", "benchmarks", "headless", "private_host", "workflows"}
PAGES = [pytest.param(node, locale, id=f"{node}-{locale}") for node in SCHEMAS for locale in LOCALES]
TRANSLATIONS = {
    locale: json.loads((PACK / "locales" / locale / "nodeDefs.json").read_text(encoding="utf-8"))
    for locale in LOCALES
    if locale != "en"
}
COMPILED = re.compile(r"[@{}|]")
"""The page reads these in titles, names and descriptions as its message language."""


def named(translated: str, identifier: str) -> str:
    return f"`{identifier}`" if translated == identifier else f"{translated} `{identifier}`"


def page_of(node: str, locale: str) -> Page:
    path = page_path(node, locale)
    assert path.is_file(), f"{node} has no help in {locale}: write {path.relative_to(PACK)}"
    return Page.read(path)


@pytest.mark.parametrize(("node", "locale"), PAGES)
def test_a_page_has_its_parts(node, locale):
    page, schema = page_of(node, locale), SCHEMAS[node]
    assert page.title == (schema.display_name if locale == "en" else TRANSLATIONS[locale][node]["display_name"])
    assert re.match(r"\w", page.lead), "the page begins with a sentence"
    inputs, outputs, wrong = HEADINGS[locale]
    assert list(page.sections)[:2] == [inputs, outputs]
    assert list(page.sections)[-1] == wrong
    assert len(page.rows(wrong)) >= 3
    assert all(len(row) == 3 and all(row) for row in page.rows(wrong))


@pytest.mark.parametrize(("node", "locale"), PAGES)
def test_the_tables_name_every_input_and_output_with_range_and_default(node, locale):
    page, schema = page_of(node, locale), SCHEMAS[node]
    words = {} if locale == "en" else TRANSLATIONS[locale][node]
    expected = []
    for port in schema.inputs:
        shown = port.id if locale == "en" else words["inputs"][port.id]["name"]
        expected.append([named(shown, port.id), choices(port), default(port, locale)])
    rows = page.rows(HEADINGS[locale][0])
    assert all(len(row) == 4 and all(row) for row in rows)
    assert [
        [name, written if range_ is not None else None, default_]
        for (name, _, written, default_), (_, range_, _) in zip(rows, expected, strict=True)
    ] == expected
    outputs = [output_name(port) for port in schema.outputs]
    shown = outputs if locale == "en" else [words["outputs"][str(i)]["name"] for i in range(len(outputs))]
    rows = page.rows(HEADINGS[locale][1])
    assert [row[0] for row in rows] == [named(*pair) for pair in zip(shown, outputs, strict=True)]
    assert all(len(row) == 2 and row[1] for row in rows)


@pytest.mark.parametrize(("node", "locale"), PAGES)
def test_every_row_says_more_than_the_tooltip(node, locale):
    """A reader of the page has read the tooltip: the row adds when to change the input, or what it does to a run."""
    page, schema = page_of(node, locale), SCHEMAS[node]
    words = None if locale == "en" else TRANSLATIONS[locale][node]
    inputs, outputs, _ = HEADINGS[locale]
    for heading, ports, part in ((inputs, schema.inputs, "inputs"), (outputs, schema.outputs, "outputs")):
        if part == "outputs" and node.startswith("EarlyFilterSampler"):
            continue  # a section of its own says more about them
        tooltips = [port.tooltip for port in ports] if words is None else [p["tooltip"] for p in words[part].values()]
        repeated = [row[0] for row, tooltip in zip(page.rows(heading), tooltips, strict=True) if row[1] == tooltip]
        assert repeated == []


@pytest.mark.parametrize("node", SCHEMAS)
def test_translations_have_the_same_parts_as_the_english_page(node):
    english = page_of(node, "en")
    for locale in TRANSLATIONS:
        page = page_of(node, locale)
        assert len(page.sections) == len(english.sections)
        assert page.pictures == english.pictures
        for ours, theirs in zip(page.sections, english.sections, strict=True):
            assert len(page.rows(ours)) == len(english.rows(theirs)), f"{locale}: {ours}"
        assert quoted(page, locale) == quoted(english, "en")


@pytest.mark.parametrize("node", SCHEMAS)
def test_pictures_and_links_lead_somewhere(node):
    for locale in LOCALES:
        page = page_of(node, locale)
        assert page.pictures
        for name in page.pictures:
            picture = DOCS / name
            assert picture.is_file(), f"{locale}: {name} is not in {DOCS.relative_to(PACK)}"
            assert picture.stat().st_size < LARGEST_PICTURE, name
            with Image.open(picture) as opened:
                assert min(opened.size) > 100, name
        # The page opens links as they stand: a relative one would lead into the void.
        assert all(link.startswith("https://") for link in page.links)


def quoted(page: Page, locale: str) -> list[str]:
    """The code's own messages in the last table."""
    return [row[0].strip("`") for row in page.rows(HEADINGS[locale][2]) if re.fullmatch("`[^`]+`", row[0])]


@functools.cache
def messages() -> tuple[str, ...]:
    """All texts in the nodes' code, with … for each value put into them."""
    found = []
    for path in (path for path in PACK.glob("*/**/*.py") if path.relative_to(PACK).parts[0] not in NOT_NODES):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


@pytest.mark.parametrize("node", SCHEMAS)
def test_messages_are_quoted_as_the_code_says_them(node):
    for message in quoted(page_of(node, "en"), "en"):
        assert any(message in text for text in messages()), f"no code says {message!r}"


def test_the_fit_section_says_when_to_use_which():
    fits = next(port.options for port in SCHEMAS["DiptychCreate"].inputs if port.id == "fit")
    for locale in LOCALES:
        page = page_of("DiptychCreate", locale)
        (heading,) = [heading for heading in page.sections if "`fit`" in heading]
        assert [row[1] for row in page.rows(heading)] == [f"`{fit}`" for fit in fits]


def test_there_are_no_pages_and_pictures_of_nodes_that_do_not_exist():
    pages = {page_path(node, locale) for node in SCHEMAS for locale in LOCALES}
    assert set(DOCS.rglob("*.md")) == pages
    shown = {DOCS / name for path in pages if path.is_file() for name in Page.read(path).pictures}
    shown |= {PACK / name for name in re.findall(r"\]\((web/docs/[^)]+)\)", (PACK / "README.md").read_text("utf-8"))}
    assert {path for path in DOCS.rglob("*") if path.is_file()} - pages == shown


@pytest.mark.parametrize("node", SCHEMAS)
def test_every_port_has_a_tooltip(node):
    schema = SCHEMAS[node]
    assert schema.description
    assert [port.id for port in schema.inputs if not port.tooltip] == []
    assert [output_name(port) for port in schema.outputs if not port.tooltip] == []


@pytest.mark.parametrize("locale", TRANSLATIONS)
def test_translations_name_exactly_what_there_is(locale):
    words = TRANSLATIONS[locale]
    assert set(words) == set(SCHEMAS)
    for node, schema in SCHEMAS.items():
        entry = words[node]
        assert set(entry) == {"display_name", "description", "inputs", "outputs"}
        assert list(entry["inputs"]) == [port.id for port in schema.inputs], node
        assert list(entry["outputs"]) == [str(index) for index in range(len(schema.outputs))], node
        ports = [*entry["inputs"].values(), *entry["outputs"].values()]
        assert all(set(port) == {"name", "tooltip"} and all(port.values()) for port in ports), node
        compiled = [entry["display_name"], entry["description"], *(port["name"] for port in ports)]
        assert [text for text in compiled if not text or COMPILED.search(text)] == [], node
        assert entry["description"] != schema.description
        assert not {port.tooltip for port in schema.inputs} & {port["tooltip"] for port in ports}, node


def test_judges_have_a_category_of_their_own_in_every_language():
    categories = {node: schema.category for node, schema in SCHEMAS.items()}
    assert {node for node in categories if node.startswith("EditJudge")} == {
        node for node, category in categories.items() if category == "ICEdit/judges"
    }
    assert set(categories.values()) == {"ICEdit", "ICEdit/judges"}
    for locale in TRANSLATIONS:
        main = json.loads((PACK / "locales" / locale / "main.json").read_text(encoding="utf-8"))
        # The page looks each part of a category up by itself; the pack's own name stays.
        assert set(main["nodeCategories"]) == {"judges"}
