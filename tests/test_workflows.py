"""The shipped workflow files: up to date, complete, runnable."""

import asyncio
import json
from pathlib import Path

import pytest
from icedit.headless.client import ComfyClient
from icedit.headless.workflow import load_workflow, with_value
from icedit.private_host.environment import NEWEST
from support.hosts import need_for
from support.workflows import API_WORKFLOWS, PAGE_WORKFLOWS, TINY_STACK_WORKFLOWS, WORKFLOWS, with_every_picture

pytestmark = pytest.mark.server

MATCHING = "COMFY_MATCHTYPE_V3"
"""The type of what takes its type from what is connected to it."""
SHORT = {
    "DiptychCreate": {"panel_width": 128},
    "KSampler": {"steps": 2},
    "InContextInversion": {"steps": 2},
    "EarlyFilterSampler": {"steps": 3, "candidates": 2, "probe_steps": 1, "keep": 1},
}


@pytest.fixture(scope="module")
def info(server):
    import urllib.request

    with urllib.request.urlopen(f"{server.url}/object_info") as answer:
        return json.load(answer)


def test_the_files_are_what_their_source_makes(info):
    import comfyui_version

    if comfyui_version.__version__ != NEWEST:
        pytest.skip(f"the files are made with ComfyUI {NEWEST}; another one describes its own nodes in another way")
    from icedit.workflows.source.write import files

    for path, content in files(info).items():
        assert (WORKFLOWS.parent / path).read_text(encoding="utf-8") == content, f"{path}: run nox -s workflows"


@pytest.mark.parametrize("path", API_WORKFLOWS, ids=lambda path: path.name)
def test_every_node_and_input_exists(info, path):
    need_for(path)
    for key, node in load_workflow(path).items():
        assert node["class_type"] in info, f"node {key}"
        sections = info[node["class_type"]]["input"]
        known = {name for part in ("required", "optional") for name in sections.get(part, {})}
        # An input that takes any number of links has its name and a number of them.
        given = {name.partition(".")[0] for name in node["inputs"]}
        assert given <= known, f"node {key} ({node['class_type']})"
        assert set(sections.get("required", {})) <= given, f"node {key} ({node['class_type']})"


@pytest.mark.parametrize("path", API_WORKFLOWS, ids=lambda path: path.name)
def test_every_link_joins_an_output_to_an_input_of_its_type(info, path):
    need_for(path)
    workflow = load_workflow(path)
    for key, node in workflow.items():
        sections = info[node["class_type"]]["input"]
        specs = {**sections.get("required", {}), **sections.get("optional", {})}
        for name, value in node["inputs"].items():
            spec = specs.get(name)
            if spec is None or not isinstance(value, list):
                continue  # of an input that takes any number of links
            origin, slot = value
            given = info[workflow[origin]["class_type"]]["output"][slot]
            wanted = "COMBO" if isinstance(spec[0], list) else spec[0]
            matches = set(wanted.split(",")) & {*given.split(","), "*"} or MATCHING in (given, wanted)
            assert matches, f"{given} of node {origin} to {name}, {wanted}, of node {key}"


@pytest.mark.parametrize("path", TINY_STACK_WORKFLOWS, ids=lambda path: path.name)
def test_it_runs_on_the_tiny_stack(server, path, tmp_path):
    from PIL import Image

    need_for(path)
    Image.effect_noise((160, 120), 80).convert("RGB").save(tmp_path / "noise.png")
    workflow = load_workflow(path)
    present = {node["class_type"] for node in workflow.values()}
    for kind, values in SHORT.items():
        for name, value in values.items():
            if kind in present:
                workflow = with_value(workflow, f"{kind}.{name}={value}")

    async def go():
        async with ComfyClient(server.url) as client:
            name = await client.upload_picture(tmp_path / "noise.png")
            return await client.run(with_every_picture(workflow, name))

    assert [picture for picture in asyncio.run(go()).pictures if picture.kind == "output"]


@pytest.mark.parametrize("path", PAGE_WORKFLOWS, ids=lambda path: path.name)
def test_model_files_can_be_downloaded_from_the_page(path):
    """Every loader's file is offered with a name, an address and a folder."""
    page = json.loads(path.read_text(encoding="utf-8"))
    nodes = [*page["nodes"], *(n for sub in page.get("definitions", {}).get("subgraphs", []) for n in sub["nodes"])]
    named = {value for node in nodes for value in _texts(node) if value.endswith(".safetensors")}
    offered = {model["name"] for node in nodes for model in node["properties"].get("models", [])}
    assert named == offered
    for node in nodes:
        for model in node["properties"].get("models", []):
            assert model["url"].startswith("https://")
            assert Path(WORKFLOWS.parent, "README.md").read_text().count(model["name"]), "not in the README's table"


def _texts(node) -> list[str]:
    values = node.get("widgets_values") or []
    return [value for value in values if isinstance(value, str)] if node["type"] != "MarkdownNote" else []
