"""What the registry hands out, checked with its own tool, and what installing it does to ComfyUI's environment."""

import ast
import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest
import uv
from icedit.headless.client import ComfyClient, ComfyError
from icedit.headless.workflow import load_workflow, with_picture, with_value
from icedit.private_host.server import running_server
from support.packed import Checkout
from support.workflows import NODE_FOLDERS, PACK, WORKFLOWS

WANTED = ("__init__.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE", "CHANGELOG.md")
NEVER = ("tests/", "benchmarks/", "mini/", "private_host/", "noxfile.py", "workflows/source/", ".ci/", ".git")


NAME = "my icedit-pack 1.0"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout.copy(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def packed(checkout):
    """The zip that `comfy node publish` would upload."""
    checkout.comfy("node", "pack")
    return checkout.folder / "node.zip"


def test_the_registrys_own_validation_finds_nothing_to_say(checkout):
    said = checkout.comfy("node", "validate")
    assert "All validation checks passed" in said
    assert "Warning" not in said
    assert "warning" not in said


def test_the_zip_holds_what_users_need_and_nothing_else(packed):
    infos = zipfile.ZipFile(packed).infolist()
    names = [info.filename for info in infos]
    assert set(WANTED) <= set(names)
    assert not [name for name in names if name.startswith(NEVER)]
    for folder in (*NODE_FOLDERS, "web", "workflows/api"):
        files = [path for path in (PACK / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
        assert {path.relative_to(PACK).as_posix() for path in files} <= set(names)
    assert max(info.file_size for info in infos) < 1_000_000
    assert packed.stat().st_size < 5_000_000


@pytest.fixture(scope="module")
def unpacked(packed, tmp_path_factory):
    """The zip's files, in a folder of a name with dashes, spaces and dots."""
    folder = tmp_path_factory.mktemp("unpacked") / NAME
    zipfile.ZipFile(packed).extractall(folder)
    return folder


@pytest.fixture(scope="module")
def zip_server(host_environment, tiny_models, unpacked):
    with running_server(host_environment, tiny_models, pack_name=NAME, pack=unpacked) as server:
        yield server


@pytest.fixture(scope="module")
def quick():
    workflow = load_workflow(WORKFLOWS / "api" / "icedit_early_filter.json")
    for assignment in ("DiptychCreate.panel_width=64", "EarlyFilterSampler.steps=3"):
        workflow = with_value(workflow, assignment)
    for assignment in ("candidates=2", "probe_steps=1", "keep=1"):
        workflow = with_value(workflow, f"EarlyFilterSampler.{assignment}")
    return workflow


@pytest.mark.server
class TestUnpackedZip:
    def test_the_nodes_the_page_and_the_templates_are_there(self, zip_server):
        with urllib.request.urlopen(f"{zip_server.url}/object_info/DiptychCreate") as answer:
            assert json.load(answer)["DiptychCreate"]["python_module"] == "custom_nodes.my icedit-pack 1.0"
        with urllib.request.urlopen(f"{zip_server.url}/extensions") as answer:
            assert [path for path in json.load(answer) if "my%20icedit" in path or "my icedit" in path]
        with urllib.request.urlopen(f"{zip_server.url}/workflow_templates") as answer:
            assert json.load(answer)["my icedit-pack 1.0"]

    def test_it_edits(self, zip_server, quick):
        async def go():
            async with ComfyClient(zip_server.url) as client:
                name = await client.upload_picture(PACK / "headless" / "astronaut.jpg")
                return await client.run(with_picture(quick, name))

        assert [picture for picture in asyncio.run(go()).pictures if picture.kind == "output"]

    def test_a_server_that_dies_in_the_middle(self, zip_server, quick):
        async def go():
            async with ComfyClient(zip_server.url) as client:
                name = await client.upload_picture(PACK / "headless" / "astronaut.jpg")
                long = with_value(with_picture(quick, name), "EarlyFilterSampler.steps=10000")
                await client.run(long, lambda _: zip_server.process.kill())

        with pytest.raises(ComfyError, match="connection to the server was lost"):
            asyncio.run(go())


class TestUnpackedCommandLine:
    def run(self, unpacked, *options):
        command = [sys.executable, "-m", "headless", *options]
        return subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False)

    @pytest.mark.server
    def test_it_edits_on_a_server(self, server, unpacked, tmp_path):
        sets = ["--set", "DiptychCreate.panel_width=64", "--set", "KSampler.steps=1"]
        done = self.run(unpacked, "--server", server.url, "--output", str(tmp_path), *sets)
        assert done.returncode == 0, done.stderr
        assert sorted(map(str, tmp_path.iterdir())) == sorted(done.stdout.splitlines())
        assert len(done.stdout.splitlines()) == 2

    def test_without_a_server_it_names_the_two_ways_on(self, unpacked, tmp_path):
        done = self.run(unpacked, "--output", str(tmp_path))
        assert done.returncode == 1
        assert "Start yours and name it, as --server http://127.0.0.1:8188, or clone the repository" in done.stderr
        assert "Traceback" not in done.stderr


class TestComfyUIsEnvironment:
    def test_installing_the_requirements_changes_no_package(self):
        """As Manager does it: requirements.txt, then what pyproject.toml names, into ComfyUI's environment."""
        command = [uv.find_uv_bin(), "pip", "install", "--dry-run", "--python", sys.executable]
        done = subprocess.run(
            [*command, "-r", str(PACK / "requirements.txt"), "-r", str(PACK / "pyproject.toml")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Would make no changes" in done.stderr or "no dependencies" in done.stderr, done.stderr

    def test_every_import_is_part_of_python_or_of_comfyui(self):
        """Nothing may be missing for a user who has ComfyUI and this pack alone."""
        host = Path(os.environ["ICEDIT_HOST"])
        lines = (host / "requirements.txt").read_text(encoding="utf-8").splitlines()
        brought = {re.split(r"[^\w-]", line)[0].lower() for line in lines if line[:1].isalpha()}
        assert {"pillow", "transformers"} <= brought
        # transformers itself needs these two.
        brought |= {"pil", "huggingface_hub", "typing_extensions"}
        brought |= sys.stdlib_module_names | {path.stem for path in host.iterdir()}
        for folder in NODE_FOLDERS:
            for path in (PACK / folder).rglob("*.py"):
                assert {name.lower() for name in _imported(path)} <= brought | ASKED_FOR, path
                assert not _imported(path, nested=False) & ASKED_FOR, path


ASKED_FOR = {"prodigyopt", "pyarrow"}
"""Imported where a user chooses what needs them; a sentence says so where they are missing."""


def _imported(path: Path, nested: bool = True) -> set[str]:
    """The packages that a file imports, anywhere in it or at its top, relative imports left out."""
    names = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}
