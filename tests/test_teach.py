"""Training from the command line: its options, its pairs, and a whole training on a real server."""

import json
import subprocess
import sys

import pytest
from icedit.headless.cli import main
from icedit.headless.teach import command, trained
from icedit.headless.teach.options import PAIRS, TRAINING, WORKFLOW, settings_of
from icedit.headless.workflow import load_workflow
from support.edit_pairs import write_pairs
from support.workflows import PACK

NOWHERE = ("--server", "http://127.0.0.1:1")


@pytest.fixture
def folders(tmp_path):
    return tuple(map(str, write_pairs(tmp_path)))


def teach(*arguments):
    """Exit status of the command line."""
    return main(["teach", *map(str, arguments)])


class TestOptions:
    def test_every_setting_of_both_nodes_is_one(self):
        workflow = load_workflow(WORKFLOW)
        settings = settings_of(workflow)
        inputs = {}
        for node in workflow.values():
            if node["class_type"] in (PAIRS, TRAINING):
                inputs |= node["inputs"]
        wired = {"model", "clip", "vae", "pairs", "sources", "edited"}
        assert set(settings) == set(inputs) - wired
        assert {"name", "steps", "rank", "on_problems", "panel_size"} <= set(settings)

    def test_they_are_set_and_keep_their_kind(self, folders, tmp_path, monkeypatch):
        seen = []

        async def catch(_, options, workflow):
            seen.extend(node["inputs"] for node in workflow.values() if node["class_type"] in (PAIRS, TRAINING))

        monkeypatch.setattr(command, "_teach", catch)
        arguments = ["--name", 7, "--steps", 3, "--checkpointing", "false", "--learning_rate", "1e-3", "--held-out", -1]
        sets = ["--set", "TrainMoELoRA.rank=5", "--output", tmp_path]
        assert teach(*NOWHERE, "--pairs", *folders, *arguments, *sets) == 0
        pairs, training = seen
        assert pairs["held_out"] == -1
        assert (training["name"], training["steps"], training["checkpointing"]) == ("7", 3, False)
        assert (training["learning_rate"], training["rank"], training["optimizer"]) == (1e-3, 5, "AdamW")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--steps", "many"), "invalid whole number value: 'many'"),
            (("--checkpointing", "maybe"), "invalid true or false value: 'maybe'"),
            (("--stepz", "3"), "unrecognized arguments: --stepz"),
            (("--workflow", "nothing.json"), "The workflow nothing.json cannot be read"),
            (("--workflow", str(PACK / "workflows/api/icedit.json")), "has 0 nodes LoadEditPairs, expected one"),
        ],
    )
    def test_wrong_ones_are_explained_before_anything_starts(self, folders, capsys, arguments, said):
        try:
            status = teach(*NOWHERE, "--pairs", *folders, *arguments)
        except SystemExit as end:
            status = end.code
        assert status == 2
        assert said in capsys.readouterr().err


class TestPairs:
    def test_what_is_wrong_is_said_before_the_server_is_asked(self, folders, tmp_path, capsys):
        (tmp_path / "after" / "1.png").unlink()
        (tmp_path / "after" / "2.txt").write_text("")
        assert teach(*NOWHERE, "--pairs", *folders, "--output", tmp_path) == 2
        said = capsys.readouterr().err
        assert "2 of 4 pairs cannot be used:" in said
        assert "1 without the edited picture: 1.png" in said
        assert "--on-problems skip" in said

    def test_a_folder_that_is_not_there(self, tmp_path, capsys):
        assert teach(*NOWHERE, "--pairs", tmp_path / "nothing", tmp_path, "--output", tmp_path) == 2
        assert f"There is no folder or file {tmp_path / 'nothing'}." in capsys.readouterr().err

    def test_the_client_needs_no_torch(self):
        """Its environment has none."""
        code = (
            "import sys; sys.modules['torch'] = sys.modules['PIL'] = sys.modules['numpy'] = None; "
            "sys.argv = ['headless', 'teach', '--help']; import runpy; runpy.run_module('headless')"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=PACK, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "--changed-weight" in done.stdout


@pytest.mark.server
class TestOnAServer:
    def run(self, server, folders, output):
        small = ["--steps", 3, "--rank", 2, "--experts", 2, "--panel-size", 64, "--sample-every", 0, "--held-out", 0]
        return teach("--server", server.url, "--pairs", *folders, "--name", "teach/red", "--output", output, *small)

    def test_a_training_ends_in_a_file_that_the_loader_takes(self, server, folders, tmp_path, capsys, monkeypatch):
        assert self.run(server, folders, tmp_path / "out") == 0
        (file,) = capsys.readouterr().out.splitlines()
        assert file == str(tmp_path / "out" / "red.safetensors")
        there = server.folder / "models" / "loras" / "teach" / "red.safetensors"
        assert (tmp_path / "out" / "red.safetensors").read_bytes() == there.read_bytes()
        assert len(list((tmp_path / "out").glob("red_loss*.png"))) == 1
        uploaded = sorted(path.name for path in (server.folder / "input" / "icedit-pairs").iterdir())
        assert len(uploaded) == 4 * 2 + 1
        (manifest,) = (server.folder / "input" / "icedit-pairs").glob("*.jsonl")
        first = json.loads(manifest.read_text().splitlines()[0])
        assert (first["id"], first["instruction"]) == ("0", ["make it red", "colour it red"])

        # The same again finds the pairs there; the file of a server elsewhere cannot be seen from here.
        monkeypatch.setattr(trained, "_metadata", lambda _: None)
        assert self.run(server, folders, tmp_path / "away") == 0
        assert capsys.readouterr().out.splitlines() == [str(tmp_path / "away" / "red.safetensors")]
        assert (tmp_path / "away" / "red.safetensors").read_bytes() == there.read_bytes()
        # Where it is gone from the output folder, or the server's pack never put it there, its name is told at least.
        (server.folder / "output" / "icedit_training" / "teach" / "red.safetensors").unlink()
        assert self.run(server, folders, tmp_path / "gone") == 0
        told = capsys.readouterr()
        assert told.out.splitlines() == ["teach/red.safetensors"]
        assert len(list((tmp_path / "gone").glob("red_loss*.png"))) == 1
        monkeypatch.setattr(trained, "SHARED", "nothing")
        assert self.run(server, folders, tmp_path / "old") == 0
        assert capsys.readouterr().out.splitlines() == ["teach/red.safetensors"]
        assert sorted(path.name for path in (server.folder / "input" / "icedit-pairs").iterdir()) == uploaded
