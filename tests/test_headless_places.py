"""Where workflows hold their picture, instruction and description: the shipped ones and others."""

import copy

import pytest
from icedit.headless.job import Edit, Job
from icedit.headless.workflow import (
    WorkflowError,
    load_workflow,
    with_description,
    with_instruction,
    with_picture,
    without_assigned,
)
from support.workflows import EDIT_WORKFLOWS, WORKFLOWS

SEVERAL_TURNS = "icedit_multi_turn.json"
SEVERAL_PICTURES = "icedit_mixed_sizes.json"
DESCRIBED = ("icedit_inversion.json", "icedit_text_to_image.json")
DESCRIPTION = "a woman with brown hair in front of a brick wall"


def shipped(name):
    return load_workflow(WORKFLOWS / "api" / name)


def named(paths, *left_out):
    return [path.name for path in paths if path.name not in left_out]


def changed(before, after):
    """The inputs that differ, as id.input -> the new value."""
    return {
        f"{key}.{name}": value
        for key, node in after.items()
        for name, value in node["inputs"].items()
        if before[key]["inputs"].get(name) != value
    }


def filled_beside(workflow, sets, edit, picture=None):
    """What the server gets where --set sets something, too."""
    return Job(without_assigned(workflow, sets), [edit], sets).filled(edit, picture)


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


class TestPictures:
    @pytest.mark.parametrize("name", named(EDIT_WORKFLOWS, SEVERAL_PICTURES))
    def test_every_shipped_workflow_takes_one(self, name):
        workflow = shipped(name)
        (place,) = changed(workflow, with_picture(workflow, "cat.png"))
        key, _, widget = place.rpartition(".")
        assert workflow[key]["inputs"][widget] == "example.png"

    def test_but_the_one_that_takes_several_and_says_so(self):
        with pytest.raises(
            WorkflowError, match=r"takes 3 pictures.* 5 \(LoadImage\), 6 .*, 7 .*--set 5\.image=cat\.png"
        ):
            with_picture(shipped(SEVERAL_PICTURES), "cat.png")

    def test_the_one_that_set_left_out_gets_the_picture(self):
        workflow = shipped(SEVERAL_PICTURES)
        sets = ["5.image=a.png", "7.image=b.png"]
        filled = filled_beside(workflow, sets, Edit(None, None), "cat.png")
        assert changed(workflow, filled) == {"5.image": "a.png", "6.image": "cat.png", "7.image": "b.png"}

    def test_nothing_left_to_set(self):
        with pytest.raises(WorkflowError, match=r"no node for a picture to load .*--set sets it already"):
            filled_beside(shipped("icedit.json"), ["DiptychCreate.image=a.png"], Edit(None, None), "cat.png")

    def test_a_picture_that_set_links_is_filled_where_it_comes_from(self):
        workflow = shipped("icedit.json")
        workflow["20"] = node("LoadImage", image="a.png")
        filled = filled_beside(workflow, ['5.image_input=["20", 0]'], Edit(None, None), "cat.png")
        assert changed(workflow, filled) == {"5.image_input": ["20", 0], "20.image": "cat.png"}

    def test_a_picture_of_which_the_mask_alone_is_used_stays(self):
        workflow = shipped("icedit.json")
        workflow["20"] = node("LoadImage", image="where.png")
        workflow["5"]["inputs"]["region"] = ["20", 1]
        assert changed(workflow, with_picture(workflow, "cat.png")) == {"5.image": "cat.png"}


class TestInstructions:
    @pytest.mark.parametrize("name", named(EDIT_WORKFLOWS, SEVERAL_TURNS))
    def test_every_shipped_workflow_takes_one(self, name):
        workflow = shipped(name)
        (place,) = changed(workflow, with_instruction(workflow, "make it blue"))
        key, _, text = place.rpartition(".")
        assert workflow[key]["inputs"][text].startswith("make her hair dark green")

    def test_the_text_that_an_early_filter_shares_with_the_prompt(self):
        workflow = shipped("kontext_early_filter.json")
        assert changed(workflow, with_instruction(workflow, "make it blue")) == {"5.value": "make it blue"}

    def test_a_text_for_the_judge_alone_is_no_instruction(self):
        workflow = shipped("kontext_early_filter.json")
        workflow["8"]["inputs"]["text"] = "make it red"
        with pytest.raises(WorkflowError, match="no node for an instruction"):
            with_instruction(workflow, "make it blue")
        workflow["12"]["inputs"]["instruction"] = "make it red"
        with pytest.raises(WorkflowError, match="no node for an instruction"):
            with_instruction(workflow, "make it blue")

    def test_an_instruction_that_a_text_node_feeds(self):
        workflow = shipped("icedit.json")
        workflow["20"] = node("PrimitiveStringMultiline", value="make it red")
        workflow["6"]["inputs"]["editText"] = ["20", 0]
        assert changed(workflow, with_instruction(workflow, "make it blue")) == {"20.value": "make it blue"}

    def test_turns_that_set_left_out_get_the_lines(self):
        workflow = shipped(SEVERAL_TURNS)
        filled = filled_beside(workflow, ["7:202.editText=add rain"], Edit(None, "add snow\nadd fog"))
        texts = {"6:102.editText": "add snow", "7:202.editText": "add rain", "8:302.editText": "add fog"}
        assert changed(workflow, filled) == texts


class TestDescriptions:
    def test_each_text_that_says_what_the_picture_shows(self):
        inversion, text_to_image = map(shipped, DESCRIBED)
        assert changed(inversion, with_description(inversion, "a cat")) == {"5.value": "a cat"}
        assert changed(text_to_image, with_description(text_to_image, "a cat")) == {"5.description": "a cat"}

    @pytest.mark.parametrize("name", DESCRIBED)
    def test_nothing_of_the_old_one_is_left(self, name):
        assert DESCRIPTION in str(shipped(name))
        assert DESCRIPTION not in str(with_description(shipped(name), "a cat"))

    def test_an_inversion_with_texts_of_its_own(self):
        workflow = copy.deepcopy(shipped(DESCRIBED[0]))
        workflow["6"]["inputs"]["description"] = "a dog"
        workflow["7"]["inputs"]["text"] = "a dog"
        filled = with_description(workflow, "a cat")
        assert changed(workflow, filled) == {"6.description": "a cat", "7.text": "a cat"}

    @pytest.mark.parametrize("name", named(EDIT_WORKFLOWS, *DESCRIBED))
    def test_the_others_say_that_they_take_none(self, name):
        with pytest.raises(WorkflowError, match=r"no node for a description of the picture .*text-to-image"):
            with_description(shipped(name), "a cat")
