"""The command line client: filling workflows, exit statuses, the embedded server's life."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock, patch

import pytest
from icedit.headless.cli import main
from icedit.headless.workflow import WorkflowError, load_workflow, with_instruction, with_picture, with_seed, with_value
from icedit.private_host.cache import cache_dir
from support.processes import heed_ctrl_c
from support.workflows import WORKFLOWS

PACK = WORKFLOWS.parent
ICEDIT = WORKFLOWS / "api" / "icedit.json"


def inputs(workflow, kind):
    return next(node["inputs"] for node in workflow.values() if node["class_type"] == kind)


class TestFilling:
    def test_picture_instruction_and_seed(self):
        workflow = load_workflow(ICEDIT)
        filled = with_seed(with_instruction(with_picture(workflow, "a.png"), "make it blue"), 7)
        assert inputs(filled, "DiptychCreate")["image"] == "a.png"
        assert inputs(filled, "InContextEditInstruction")["editText"] == "make it blue"
        assert inputs(filled, "KSampler")["seed"] == 7
        assert workflow == load_workflow(ICEDIT), "the workflow that came in is unchanged"

    def test_a_linked_instruction_is_left_alone(self):
        workflow = load_workflow(ICEDIT)
        inputs(workflow, "InContextEditInstruction")["editText"] = ["99", 0]
        with pytest.raises(WorkflowError, match="no node for an instruction"):
            with_instruction(workflow, "x")

    def test_every_turn_gets_a_line_of_the_instruction(self):
        workflow = load_workflow(WORKFLOWS / "api" / "icedit_multi_turn.json")
        filled = with_instruction(workflow, "make it blue\nmake it night\nadd snow")
        texts = [node["inputs"].get("editText") for node in filled.values()]
        assert [text for text in texts if text] == ["make it blue", "make it night", "add snow"]
        with pytest.raises(WorkflowError, match="3 edits in a row, but the instruction has 1 lines"):
            with_instruction(workflow, "make it blue")

    @pytest.mark.parametrize(
        ("assignment", "value"),
        [
            ("KSampler.steps=5", 5),
            ("KSampler.steps=0.5", 0.5),
            ("KSampler.steps=a=b", "a=b"),
            ('KSampler.steps="5"', "5"),
        ],
    )
    def test_values_are_json_or_text(self, assignment, value):
        assert inputs(with_value(load_workflow(ICEDIT), assignment), "KSampler")["steps"] == value

    def test_a_node_by_its_id(self):
        assert (
            with_value(load_workflow(ICEDIT), "1.unet_name=b.safetensors")["1"]["inputs"]["unet_name"]
            == "b.safetensors"
        )

    @pytest.mark.parametrize("assignment", ["steps=5", "KSampler.steps", ".steps=5", "=5"])
    def test_assignments_of_another_form(self, assignment):
        with pytest.raises(WorkflowError, match=r"not of the form NODE\.INPUT=VALUE"):
            with_value(load_workflow(ICEDIT), assignment)

    def test_an_unknown_node_is_answered_with_those_that_exist(self):
        with pytest.raises(WorkflowError, match=r"no node 'Sampler'; it has 1 \(UNETLoader\)"):
            with_value(load_workflow(ICEDIT), "Sampler.steps=5")

    def test_a_command_for_a_node_that_another_one_has_replaced(self):
        changed = with_value(load_workflow(ICEDIT), "CropRightHalf.restore=panel")
        assert inputs(changed, "DecodeRightHalf")["restore"] == "panel"

    @pytest.mark.parametrize(
        "content", ["[]", "{}", '{"1": {}}', '{"1": {"class_type": "A"}}', "nonsense", "[" * 100_000]
    )
    def test_what_is_no_workflow(self, tmp_path, content):
        (tmp_path / "w.json").write_text(content)
        with pytest.raises(WorkflowError, match=r"w\.json"):
            load_workflow(tmp_path / "w.json")

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    def test_files_of_other_programs(self, tmp_path, encoding):
        workflow = with_instruction(load_workflow(ICEDIT), "\u732b bla\u00df \N{KEY}")
        (tmp_path / "w.json").write_bytes(json.dumps(workflow, ensure_ascii=False).encode(encoding))
        assert load_workflow(tmp_path / "w.json") == workflow

    def test_another_encoding(self, tmp_path):
        (tmp_path / "w.json").write_bytes('{"1": "bla\u00df"}'.encode("cp1252"))
        with pytest.raises(WorkflowError, match="Save it as UTF-8"):
            load_workflow(tmp_path / "w.json")

    def test_a_requests_body(self, tmp_path):
        workflow = load_workflow(ICEDIT)
        extra = {"extra_pnginfo": {"workflow": {"nodes": [], "links": []}}, "api_key_comfy_org": "s3cret"}
        for body in ({"prompt": workflow}, {"prompt": workflow, "client_id": "x", "number": 1, "extra_data": extra}):
            (tmp_path / "w.json").write_text(json.dumps(body))
            assert load_workflow(tmp_path / "w.json") == workflow

    def test_a_body_with_something_else_in_it(self, tmp_path):
        for prompt in ([], {"1": 3}, json.loads((WORKFLOWS / "icedit.json").read_text(encoding="utf-8"))):
            (tmp_path / "w.json").write_text(json.dumps({"prompt": prompt}))
            with pytest.raises(WorkflowError, match=r"no workflow in API format|Export \(API\)"):
                load_workflow(tmp_path / "w.json")

    def test_a_node_may_be_called_prompt(self, tmp_path):
        workflow = {"prompt": {"class_type": "A", "inputs": {}}}
        (tmp_path / "w.json").write_text(json.dumps(workflow))
        assert load_workflow(tmp_path / "w.json") == workflow

    def test_the_pages_format_is_refused_with_the_way_to_the_other(self):
        with pytest.raises(WorkflowError, match=r"Export \(API\)"):
            load_workflow(WORKFLOWS / "icedit.json")


class TestExitStatus:
    def test_a_bad_workflow(self, capsys):
        assert main(["--workflow", "nowhere.json"]) == 2
        assert "nowhere.json cannot be read" in capsys.readouterr().err

    def test_a_bad_address(self, capsys):
        assert main(["--server", "localhost:8188"]) == 1
        assert "must start with http" in capsys.readouterr().err

    @pytest.mark.server
    def test_some_failed(self, server, tmp_path, capsys):
        pictures = [str(PACK / "headless" / "astronaut.jpg"), str(tmp_path / "gone.png")]
        quick = ["--set", "DiptychCreate.panel_width=64", "--set", "KSampler.steps=1", "--seed", "3"]
        instructions = ["--instruction", "make it red", "make it blue"]
        output = ["--output", str(tmp_path / "out")]
        assert main(["--server", server.url, "--picture", *pictures, *instructions, *quick, *output]) == 1
        said = capsys.readouterr()
        files = [Path(line) for line in said.out.splitlines()]
        assert len(files) == 4
        assert all(file.is_file() for file in files)
        assert said.err.count("gone.png cannot be read") == 2


@pytest.mark.server
@pytest.mark.skipif(os.name == "nt", reason="signals are sent in another way on Windows")
class TestEmbedded:
    def test_ctrl_c_stops_the_server_and_leaves_nothing(self, tmp_path):
        environ = {**os.environ, "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-m", "headless", "--set", "KSampler.steps=10000", "--output", str(tmp_path / "out")]
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                command, cwd=PACK, env=environ, stdout=said, stderr=subprocess.STDOUT, preexec_fn=heed_ctrl_c
            )
            deadline = time.monotonic() + 240

            def text() -> str:
                said.seek(0)
                return said.read()

            while not re.search(r"KSampler:.* \d+/10000", text()):
                assert process.poll() is None, text()
                assert time.monotonic() < deadline, text()
                time.sleep(0.2)
            (folder,) = tmp_path.glob("icedit-*")
            assert children(process.pid)
            server = children(process.pid)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130, text()
            assert "Stopped." in text()
            assert not folder.exists()
            assert not [pid for pid in server if Path(f"/proc/{pid}").exists()]


def tasks():
    """What noxfile.py defines. nox itself is not installed beside ComfyUI."""
    nox = ModuleType("nox")
    vars(nox).update(options=SimpleNamespace(), session=lambda function: function, Session=object)
    with patch.dict(sys.modules, nox=nox):
        return runpy.run_path(str(PACK / "noxfile.py"))


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("this system does not list a process's children")
    return [int(child) for child in path.read_text().split()]


def test_the_readmes_first_two_commands_are_the_two_tasks():
    blocks = re.findall(r"```sh\n(.*?)```", (PACK / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert [block.strip().split(" -s ")[1] for block in blocks[:2]] == ["edit", "tests"]
    assert all(block.count("\n") == 1 for block in blocks[:2])


@pytest.mark.parametrize("variable", ["ICEDIT_CACHE", "XDG_CACHE_HOME", "HOME"])
def test_the_tasks_and_the_command_line_have_one_cache(monkeypatch, tmp_path, variable):
    for name in ("ICEDIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    expected = {"ICEDIT_CACHE": tmp_path, "XDG_CACHE_HOME": tmp_path / "comfyui-icedit"}
    assert tasks()["CACHE"] == cache_dir()
    if sys.platform == "linux":
        assert cache_dir() == expected.get(variable, tmp_path / ".cache" / "comfyui-icedit")


def test_the_cache_of_another_system(monkeypatch, tmp_path):
    monkeypatch.delenv("ICEDIT_CACHE", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, **_: f"{tmp_path}/Library/Caches/{name}")
    assert tasks()["CACHE"] == cache_dir() == tmp_path / "Library" / "Caches" / "comfyui-icedit"


def test_the_task_runner_does_not_print_the_arguments():
    """nox prints the commands that it runs, and once more when they fail: an address in them may hold a password."""
    session = MagicMock(posargs=["--server", "http://me:s3cret@x"])
    tasks()["edit"](session)
    (call,) = session.run.call_args_list
    assert call.args == ("python", "-m", "headless")
    assert "s3cret" in call.kwargs["env"]["ICEDIT_ARGUMENTS"]


def test_arguments_by_the_environment(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["headless"])
    monkeypatch.setenv("ICEDIT_ARGUMENTS", '["--workflow", "nowhere.json"]')
    assert main() == 2
    assert "nowhere.json cannot be read" in capsys.readouterr().err
    assert "ICEDIT_ARGUMENTS" not in os.environ, "not for the processes that are started here"


def test_the_metadata_says_what_the_pack_is():
    import tomllib

    project = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == "comfyui-icedit"
    assert project["tool"]["comfy"]["requires-comfyui"] == ">=0.16.3"
    lines = (PACK / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
