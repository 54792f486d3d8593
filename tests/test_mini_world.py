"""The picture world: edits do what their words say, and success is measured as it is meant."""

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from icedit.mini.edits import TASKS, random_edit
from icedit.mini.render import render
from icedit.mini.scene import COLOURS, PLACES, Scene, Shape
from icedit.mini.success import verdict


def edits(task: str, count: int = 40):
    draw = random.Random(task)
    return [random_edit(draw, task) for _ in range(count)]


@pytest.mark.parametrize("task", TASKS)
def test_the_wanted_picture_is_a_success_and_the_source_is_none(task):
    for edit in edits(task):
        assert verdict(edit, render(edit.after)).success, edit.instruction
        assert not verdict(edit, render(edit.before)).edited, edit.instruction


@pytest.mark.parametrize("task", ["recolour", "remove", "add", "swap", "restyle"])
def test_a_damaged_rest_is_no_success(task):
    for edit in edits(task, 10):
        other = "black" if edit.before.background != "black" else "white"
        result = verdict(edit, render(replace(edit.after, background=other)))
        assert not result.kept, edit.instruction


def test_half_a_change_is_no_edit():
    edit = edits("background", 1)[0]
    assert not verdict(edit, torch.lerp(render(edit.before), render(edit.after), 0.4)).edited


@pytest.mark.parametrize("task", ["recolour", "remove", "swap", "restyle"])
def test_an_instruction_names_one_shape_of_the_scene(task):
    for edit in edits(task):
        named = [shape for shape in edit.before.shapes if f"{shape.colour} {shape.kind}" in edit.instruction]
        assert named == [shape for shape in edit.before.shapes if shape not in edit.after.shapes]


def test_shapes_of_a_scene_differ_in_kind_colour_and_place():
    draw = random.Random(3)
    for _ in range(200):
        scene = random_edit(draw).after
        for name in ("kind", "colour", "place"):
            assert max(Counter(getattr(shape, name) for shape in scene.shapes).values(), default=1) == 1


def test_a_shape_is_painted_in_its_colour_where_it_lies():
    for index, place in enumerate(PLACES):
        x, y = 32 + 64 * (index % 2), 32 + 64 * (index // 2)
        scene = Scene("white", "plain", (Shape("square", "green", place, x, y, 20.0),))
        picture = render(scene)
        assert torch.allclose(picture[:, y, x], torch.tensor(COLOURS["green"]))
        assert torch.allclose(picture[:, (y + 64) % 128, x], picture[:, 0, 64])


def test_unknown_words_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'pentagon' is not in this world, which has circle, square"):
        Shape("pentagon", "red", "top left", 32, 32, 20)
    with pytest.raises(ValueError, match=r"'mauve' is not in this world"):
        Scene("mauve", "plain", ())
