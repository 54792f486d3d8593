"""The mini models edit for real: known scenes through the shipped workflows over HTTP, each task once."""

import asyncio
import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from icedit.headless import embedded
from icedit.headless.client import ComfyClient
from icedit.headless.places import description_places
from icedit.headless.workflow import load_workflow, with_description, with_instruction, with_picture, with_value
from icedit.mini.edits import TASKS, random_edit
from icedit.mini.prompts import scene_caption
from icedit.mini.render import render
from icedit.mini.success import verdict
from icedit.private_host.server import running_server
from PIL import Image
from support.hosts import need_for

pytestmark = pytest.mark.server

API = Path(__file__).resolve().parent.parent / "workflows" / "api"


@pytest.fixture(scope="module")
def mini_server(host_environment):
    with running_server(host_environment, embedded.MODELS) as server:
        yield server


SCENES = dict.fromkeys(TASKS, 0) | {"add": 1, "swap": 1}
"""A scene for each task in which the models succeed; they do not in every one (benchmarks/mini_editbench.py)."""
UNTRAINED = {"icedit_text_to_image": (2, "remove"), "icedit_inversion": (2, "remove")}
"""A scene and a task for each workflow without training, which edits less often (benchmarks/training_free.py)."""
ALONE = 1
"""A scene with one shape."""


def edited(server, folder: Path, edit, workflow: str = "icedit", restore: str = "panel") -> np.ndarray:
    """The edited picture `128 128 3`, 0..255."""
    source = folder / "scene.png"
    Image.fromarray(pixels(edit.before)).save(source)
    graph = embedded.with_mini_models(load_workflow(API / f"{workflow}.json"))
    graph = with_value(graph, f"DecodeRightHalf.restore={restore}")
    if description_places(graph):
        graph = with_description(graph, scene_caption(edit.before))

    async def go() -> bytes:
        async with ComfyClient(server.url) as client:
            name = await client.upload_picture(source)
            result = await client.run(with_instruction(with_picture(graph, name), edit.instruction))
            return await client.download(next(saved for saved in result.pictures if saved.kind == "output"))

    return np.asarray(Image.open(io.BytesIO(asyncio.run(go()))).convert("RGB"))


def pixels(scene) -> np.ndarray:
    return (render(scene).movedim(0, -1) * 255).round().byte().numpy()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("workflow", ["icedit", "icedit_moe"])
def test_the_edit_is_done_and_the_rest_stays(mini_server, tmp_path, workflow, task):
    check_edit(mini_server, tmp_path, random_edit(random.Random(SCENES[task]), task), workflow)


@pytest.mark.parametrize("workflow", UNTRAINED)
def test_edits_without_training(mini_server, tmp_path, workflow):
    need_for(API / f"{workflow}.json")
    seed, task = UNTRAINED[workflow]
    check_edit(mini_server, tmp_path, random_edit(random.Random(seed), task), workflow)


def check_edit(server, folder, edit, workflow):
    result = torch.from_numpy(edited(server, folder, edit, workflow) / 255.0).movedim(-1, 0).float()
    found = verdict(edit, result)
    assert found.edited, f"{edit.instruction}: {found}"
    assert found.kept, f"{edit.instruction}: {found}"


@pytest.mark.parametrize("task", ["recolour", "remove"])
def test_restoring_keeps_untouched_pixels_bit_for_bit(mini_server, tmp_path, task):
    edit = random_edit(random.Random(ALONE), task)
    result, before = edited(mini_server, tmp_path, edit, restore="blend"), pixels(edit.before)
    (touched,) = [shape for shape in edit.before.shapes if shape not in edit.after.shapes]
    far = np.ones((128, 128), bool)
    x, y, reach = int(touched.x), int(touched.y), int(touched.radius) + 34
    far[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach] = False
    assert far.any()
    assert (result[far] == before[far]).all()
    assert (result != before).any()


def test_another_instruction_gives_another_edit(mini_server, tmp_path):
    from dataclasses import replace

    edit = random_edit(random.Random(SCENES["recolour"]), "recolour")
    other = replace(edit, instruction="change the background to black")
    assert not (edited(mini_server, tmp_path, edit) == edited(mini_server, tmp_path, other)).all()
