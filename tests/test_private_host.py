"""A ComfyUI that is installed already: found with its interpreter, run with what it has, and left as it was."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from icedit.headless.cli import main, parsed
from icedit.headless.job import PHOTOGRAPH, Edit, job_of
from icedit.headless.workflow import load_workflow, with_value
from icedit.private_host.environment import SetupError, interpreter_of
from icedit.private_host.installed import installed
from support.workflows import PACK, WORKFLOWS

SHIPPED = WORKFLOWS / "api" / "icedit.json"
QUICK = ("DiptychCreate.panel_width=64", "KSampler.steps=1")
only_posix = pytest.mark.skipif(os.name == "nt", reason="links and scripts stand for interpreters here")


def comfyui(folder: Path) -> Path:
    """A folder that looks like ComfyUI's."""
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").write_text("")
    return folder


def interpreter(path: Path, has_torch: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {0 if has_torch else 1}\n")
    path.chmod(0o755)
    return path


@only_posix
class TestFinding:
    @pytest.mark.parametrize("place", ["venv/bin/python", ".venv/bin/python", "../python_embeded/python.exe"])
    def test_its_own_interpreter(self, tmp_path, place):
        host = comfyui(tmp_path / "ComfyUI")
        python = interpreter(host / place)
        found = installed(host)
        assert found.host == host
        assert os.path.samefile(found.python, python)

    def test_the_folder_around_it(self, tmp_path):
        python = interpreter(tmp_path / "python_embeded" / "python.exe")
        host = comfyui(tmp_path / "ComfyUI")
        assert (installed(tmp_path).host, installed(tmp_path).python) == (host, python)

    def test_an_environment_without_torch_is_another_programs(self, tmp_path):
        host = comfyui(tmp_path)
        interpreter(interpreter_of(host / "venv"), has_torch=False)
        python = interpreter(interpreter_of(host / ".venv"))
        assert installed(host).python == python

    def test_the_one_that_runs_this_is_the_last(self, tmp_path):
        assert installed(comfyui(tmp_path)).python == Path(sys.executable)

    def test_the_one_that_is_named_is_the_only_one(self, tmp_path):
        host = comfyui(tmp_path)
        interpreter(interpreter_of(host / "venv"))
        named = interpreter(tmp_path / "conda" / "python")
        assert installed(host, named).python == named
        with pytest.raises(SetupError, match=r"nowhere/python\nName the one .*--comfyui-python"):
            installed(host, tmp_path / "nowhere" / "python")

    def test_none_that_could_run_it(self, tmp_path, monkeypatch):
        monkeypatch.setattr("sys.executable", str(interpreter(tmp_path / "running", has_torch=False)))
        with pytest.raises(SetupError, match=r"No Python with PyTorch") as caught:
            installed(comfyui(tmp_path / "ComfyUI"))
        assert all(name in str(caught.value) for name in ("/venv/", "/.venv/", "/python_embeded/", "/running"))


def test_a_folder_without_comfyui(tmp_path, capsys):
    assert main(["--comfyui", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert f"There is no ComfyUI in {tmp_path}" in capsys.readouterr().err


def test_one_that_ends_while_starting(tmp_path, capsys):
    (comfyui(tmp_path / "ComfyUI") / "main.py").write_text("raise SystemExit('no NVIDIA driver')")
    assert main(["--comfyui", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "ended while starting, exit status 1.\nno NVIDIA driver\nIf you start it with options" in said
    assert "This was a mini model" not in said


def test_the_real_models_are_expected(tmp_path):
    job = job_of(parsed(["--comfyui", str(tmp_path)]))
    assert job.edits == [Edit(PHOTOGRAPH, None)]
    assert job.workflow == load_workflow(SHIPPED)


@pytest.mark.parametrize(
    "options", [["--comfyui", "x", "--server", "http://x"], ["--comfyui-python", "x"], ["--comfyui-option=--cpu"]]
)
def test_options_that_do_not_go_together(options, capsys):
    with pytest.raises(SystemExit):
        parsed(options)
    assert "--comfyui" in capsys.readouterr().err


EARLIER_COPY = """
class DiptychCreate:
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES = ()
    FUNCTION = "nothing"
    CATEGORY = ""

NODE_CLASS_MAPPINGS = {"DiptychCreate": DiptychCreate}
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory, tiny_models):
    """ComfyUI with models, an environment, an input picture and node packs, one of which has this pack's names."""
    folder = tmp_path_factory.mktemp("installed") / "ComfyUI"
    shutil.copytree(os.environ["ICEDIT_HOST"], folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("models", "custom_nodes", "input"):
        (folder / name).mkdir(exist_ok=True)
    shutil.copytree(tiny_models, folder / "models", dirs_exist_ok=True)
    text_encoders = PACK / "private_host" / "text_encoders"
    (folder / "custom_nodes" / "tiny-text-encoders").symlink_to(text_encoders, target_is_directory=True)
    (folder / "custom_nodes" / "earlier_copy.py").write_text(EARLIER_COPY)
    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    shutil.copy(PHOTOGRAPH, folder / "input" / "holiday.png")
    return folder


@only_posix
@pytest.mark.server
@pytest.mark.parametrize("own_picture", [True, False])
def test_it_edits_with_what_it_has_and_is_left_as_it_was(installation, tmp_path, own_picture):
    workflow = with_value(load_workflow(SHIPPED), "DiptychCreate.image=holiday.png")
    (tmp_path / "own.json").write_text(json.dumps(workflow))
    before = everything_in(installation)
    options = ["--comfyui", installation, "--comfyui-option=--cpu", "--output", tmp_path / "out"]
    options += ["--workflow", tmp_path / "own.json", *(() if own_picture else ("--picture", PHOTOGRAPH))]
    options += [part for assignment in QUICK for part in ("--set", assignment)]
    assert main([str(option) for option in options]) == 0
    stem = "icedit" if own_picture else "astronaut_icedit"
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        f"{stem}_001.png",
        f"{stem}_before_after_001.png",
    ]
    assert everything_in(installation) == before


def everything_in(folder: Path) -> dict[str, int]:
    """Every file and folder but Python's caches, with its time of change."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if "__pycache__" not in str(path) and path.is_file()
    }
