"""What the command line's options come to, and what an edit that cannot be made does to the others."""

import asyncio
import json
import shutil
import urllib.request

import pytest
from icedit.headless import embedded
from icedit.headless.batch import Edit, OutputError, make_output_folder, run_edits
from icedit.headless.cli import _parser, main
from icedit.headless.job import PHOTOGRAPH, job_of
from icedit.headless.places import description_places
from icedit.headless.workflow import WorkflowError, load_workflow, with_value
from support.proxy import proxy_to
from support.workflows import WORKFLOWS

API = WORKFLOWS / "api"
URL = ["--server", "http://127.0.0.1:8188"]
TRAINING_FREE = ("icedit_inversion.json", "icedit_text_to_image.json")
QUICK = ("DiptychCreate.panel_width=64", "KSampler.steps=1")


def job(*options):
    return job_of(_parser().parse_args([str(option) for option in options]))


def quick(name):
    workflow = load_workflow(API / name)
    for assignment in QUICK:
        workflow = with_value(workflow, assignment)
    return workflow


@pytest.fixture
def own(tmp_path):
    """The plain workflow as a file of the user's, with a picture and words of the user's."""
    path = tmp_path / "own.json"
    workflow = with_value(quick("icedit.json"), "DiptychCreate.image=holiday.png")
    path.write_text(json.dumps(with_value(workflow, "InContextEditInstruction.editText=make it night")))
    return path


def loaded(workflow):
    return next(node["inputs"]["unet_name"] for node in workflow.values() if node["class_type"] == "UNETLoader")


class TestDefaults:
    def test_a_shipped_workflow_on_a_server(self):
        assert job(*URL).edits == [Edit(PHOTOGRAPH, None)]

    def test_a_shipped_workflow_on_the_mini_models(self):
        assert job().edits == [Edit(embedded.PICTURE, embedded.INSTRUCTION)]

    def test_what_set_sets_is_no_examples(self):
        sets = ["--set", "DiptychCreate.image=a.png", "--set", "InContextEditInstruction.editText=make it blue"]
        for where in (URL, []):
            assert job(*where, *sets).edits == [Edit(None, None)]

    def test_an_own_workflow_on_a_server_is_run_as_it_is(self, own):
        assert job(*URL, "--workflow", own).edits == [Edit(None, None)]

    def test_an_own_workflow_on_the_mini_models_has_no_picture_there(self, own):
        assert job("--workflow", own).edits == [Edit(embedded.PICTURE, None)]

    def test_every_picture_gets_every_instruction(self):
        edits = job("--picture", "a.png", "b.png", "--instruction", "x", "y").edits
        assert [str(edit) for edit in edits] == ["a.png, 'x'", "a.png, 'y'", "b.png, 'x'", "b.png, 'y'"]

    def test_a_description(self):
        made = job(*URL, "--workflow", API / "icedit_inversion.json", "--description", "a cat")
        assert made.workflow["5"]["inputs"]["value"] == "a cat"
        with pytest.raises(WorkflowError, match="no node for a description"):
            job(*URL, "--description", "a cat")

    def test_a_description_that_was_not_given_is_mentioned_with_a_picture(self, caplog):
        options = [*URL, "--workflow", API / "icedit_text_to_image.json"]
        job(*options)
        job(*options, "--picture", "a.png", "--description", "a cat")
        job(*options, "--picture", "a.png", "--set", "5.description=a cat")
        assert not caplog.messages
        job(*options, "--picture", "a.png")
        assert "shows 'a woman with brown hair in front of a brick wall'" in caplog.text

    @pytest.mark.parametrize("name", TRAINING_FREE)
    def test_a_training_free_workflow_on_the_mini_models(self, name):
        made = job("--workflow", API / name)
        assert made.edits == [Edit(embedded.PICTURE, embedded.UNTRAINED_INSTRUCTION)]
        assert loaded(made.workflow) == "mini_dev.safetensors"
        assert {made.workflow[key]["inputs"][place] for key, place in description_places(made.workflow)} == {
            embedded.DESCRIPTION
        }
        assert loaded(job("--workflow", API / "icedit_moe.json").workflow) == "mini_fill.safetensors"

    def test_a_description_for_a_template_that_set_chooses(self):
        made = job(*URL, "--set", "6.template=text-to-image", "--description", "a cat")
        assert made.workflow["6"]["inputs"]["description"] == "a cat"

    def test_what_set_adds_to_a_node(self):
        made = job("--set", "KSampler.step=4", "--set", "KSampler.steps=4")
        assert made.added == {("9", "step")}
        assert made.filled(made.edits[0], "a.png")["9"]["inputs"].items() >= {"step": 4, "steps": 4}.items()


class TestRefusedBeforeAServerIsStarted:
    """What the mini models lack. A server would take 20 s to start, and is not there in these tests."""

    @pytest.fixture(autouse=True)
    def _no_server(self, monkeypatch):
        monkeypatch.setattr(embedded, "started_server", lambda *_: pytest.fail("a server is started"))

    def refused(self, capsys, tmp_path, *options):
        assert main([str(option) for option in (*options, "--output", tmp_path)]) == 2
        return capsys.readouterr().err

    def test_kontext(self, capsys, tmp_path):
        said = self.refused(capsys, tmp_path, "--workflow", API / "kontext_early_filter.json")
        assert "needs FLUX.1 Kontext (node 9, ReferenceLatent)" in said
        assert "has the mini models only: mini_ae.safetensors, " in said and "--comfyui" in said

    def test_a_judges_model(self, capsys, tmp_path):
        workflow = load_workflow(API / "icedit_early_filter.json")
        workflow["judge"] = {"class_type": "CLIPLoader", "inputs": {"clip_name": "qwen3vl_4b.safetensors"}}
        (tmp_path / "own.json").write_text(json.dumps(workflow))
        said = self.refused(capsys, tmp_path, "--workflow", tmp_path / "own.json")
        assert "needs qwen3vl_4b.safetensors (node judge, CLIPLoader)" in said

    def test_a_file_that_set_names(self, capsys, tmp_path):
        said = self.refused(capsys, tmp_path, "--set", "UNETLoader.unet_name=flux1-dev.safetensors")
        assert "needs flux1-dev.safetensors (node 1, UNETLoader)" in said


class TestRefusedBeforeAServerIsAsked:
    def refused(self, capsys, *options):
        assert main([*URL, *(str(option) for option in options)]) == 2
        return capsys.readouterr().err

    def test_a_workflow_of_several_pictures(self, capsys, tmp_path):
        options = ["--workflow", API / "icedit_mixed_sizes.json", "--picture", "a.png", "--output", tmp_path]
        assert "takes 3 pictures" in self.refused(capsys, *options)

    def test_too_few_lines(self, capsys, tmp_path):
        options = ["--workflow", API / "icedit_multi_turn.json", "--instruction", "x", "--output", tmp_path]
        assert "Write one line for each edit" in self.refused(capsys, *options)

    def test_an_instruction_that_set_sets_too(self, capsys, tmp_path):
        sets = ["--set", "6.editText=x"]
        said = self.refused(capsys, "--instruction", "y", *sets, "--output", tmp_path)
        assert "no node for an instruction" in said and "--set sets it already" in said

    def test_an_output_folder_that_is_a_file(self, capsys, tmp_path):
        (tmp_path / "out").write_text("")
        assert f"Results cannot be saved in {tmp_path / 'out'}: File exists" in self.refused(
            capsys, "--output", tmp_path / "out"
        )

    def test_an_output_folder_without_permission(self, monkeypatch, tmp_path):
        def refuse(**_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("tempfile.TemporaryFile", refuse)
        with pytest.raises(OutputError, match=r"Permission denied\. Name a folder that you may write into"):
            make_output_folder(tmp_path)


@pytest.mark.server
class TestBatch:
    def test_an_edit_that_does_not_fit_the_workflow_is_not_uploaded_and_does_not_stop_the_others(
        self, server, tmp_path
    ):
        edits = [Edit(PHOTOGRAPH, "one line"), Edit(PHOTOGRAPH, "x\ny\nz"), Edit(PHOTOGRAPH, "two\nlines")]

        async def go():
            async with proxy_to(server.url) as proxy:
                outcomes = await run_edits(proxy.url, quick("icedit_multi_turn.json"), edits, tmp_path)
                return outcomes, proxy.requests.count("/upload/image")

        outcomes, uploads = asyncio.run(go())
        assert [outcome.edit for outcome in outcomes] == edits
        assert "has 1 lines" in (outcomes[0].error or "")
        assert outcomes[1].error is None and len(outcomes[1].files) == 2
        assert "has 2 lines" in (outcomes[2].error or "")
        assert uploads == 1

    def test_a_result_that_cannot_be_saved_is_its_edits_error(self, server, tmp_path):
        # Long enough for the name of a file, too long with what is added for a result.
        long = tmp_path / ("a" * 240 + ".jpg")
        shutil.copy(PHOTOGRAPH, long)
        edits = [Edit(long, "x"), Edit(PHOTOGRAPH, "x")]
        outcomes = asyncio.run(run_edits(server.url, quick("icedit.json"), edits, tmp_path / "out"))
        assert "could not be saved" in (outcomes[0].error or "") and "too long" in (outcomes[0].error or "")
        assert outcomes[1].error is None

    def test_what_was_saved_before_is_still_named(self, server, tmp_path, monkeypatch):
        from icedit.headless import batch

        save = batch._save

        def fails_later(content, folder, edit, saved_as):
            if "before_after" in saved_as.name:
                raise OSError(28, "No space left on device")
            return save(content, folder, edit, saved_as)

        monkeypatch.setattr(batch, "_save", fails_later)
        (outcome,) = asyncio.run(run_edits(server.url, quick("icedit.json"), [Edit(PHOTOGRAPH, "x")], tmp_path))
        assert [file.name for file in outcome.files] == ["astronaut_icedit_001.png"]
        assert "No space left on device" in (outcome.error or "")


@pytest.mark.server
class TestCommandLine:
    def run(self, server, tmp_path, *options):
        sets = [part for assignment in QUICK for part in ("--set", assignment)]
        return main(["--server", server.url, "--output", str(tmp_path / "out"), *sets, *map(str, options)])

    def inputs(self, server, kind):
        """Those of the prompt that ran last."""
        with urllib.request.urlopen(f"{server.url}/history?max_items=1") as answer:
            (entry,) = json.load(answer).values()
        return next(node["inputs"] for node in entry["prompt"][2].values() if node["class_type"] == kind)

    def uploads(self, server):
        return set((server.folder / "input").rglob("*"))

    def test_set_wins(self, server, tmp_path):
        shutil.copy(embedded.PICTURE, server.folder / "input" / "drawing.png")
        before = self.uploads(server)
        sets = ["--set", "InContextEditInstruction.editText=make it violet", "--set", "DiptychCreate.image=drawing.png"]
        assert self.run(server, tmp_path, *sets) == 0
        assert self.inputs(server, "InContextEditInstruction")["editText"] == "make it violet"
        assert self.inputs(server, "DiptychCreate")["image"] == "drawing.png"
        assert self.uploads(server) == before
        assert (tmp_path / "out" / "icedit_001.png").is_file()

    def test_an_own_workflow_keeps_its_picture_and_words(self, server, tmp_path, own):
        shutil.copy(PHOTOGRAPH, server.folder / "input" / "holiday.png")
        assert self.run(server, tmp_path, "--workflow", own) == 0
        assert self.inputs(server, "InContextEditInstruction")["editText"] == "make it night"
        assert self.inputs(server, "DiptychCreate")["image"] == "holiday.png"

    def test_a_mistyped_input_is_answered_with_those_that_exist(self, server, tmp_path, capsys):
        before = self.uploads(server)
        assert self.run(server, tmp_path, "--set", "KSampler.step=4") == 2
        said = capsys.readouterr().err
        assert "Node 9 (KSampler) has no input 'step'" in said
        assert "model, seed, steps, cfg" in said
        assert self.uploads(server) == before

    def test_an_optional_input_that_the_file_does_not_have(self, server, tmp_path):
        workflow = quick("icedit.json")
        del workflow["5"]["inputs"]["margin"]
        (tmp_path / "short.json").write_text(json.dumps(workflow))
        options = ["--workflow", tmp_path / "short.json", "--picture", PHOTOGRAPH]
        assert self.run(server, tmp_path, *options, "--set", "DiptychCreate.margin=0.25") == 0
        assert self.inputs(server, "DiptychCreate")["margin"] == 0.25

    def test_a_class_that_the_server_does_not_have(self, server, tmp_path, capsys):
        workflow = quick("icedit.json")
        workflow["99"] = {"class_type": "Some/Node & More", "inputs": {}}
        (tmp_path / "other.json").write_text(json.dumps(workflow))
        assert self.run(server, tmp_path, "--workflow", tmp_path / "other.json", "--set", "99.x=1") == 2
        assert "does not know this class of nodes" in capsys.readouterr().err
