"""The shipped workflows for several turns and for several pictures, over HTTP."""

import asyncio
import io

import numpy as np
import pytest
from icedit.headless.client import ComfyClient
from icedit.headless.workflow import load_workflow, with_picture, with_value
from PIL import Image
from support.workflows import WORKFLOWS

pytestmark = pytest.mark.server

PANEL = 128


def noise(seed, width, height):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height))


def quick(name):
    workflow = load_workflow(WORKFLOWS / "api" / name)
    for assignment in (f"DiptychCreate.panel_width={PANEL}", "KSampler.steps=2"):
        workflow = with_value(workflow, assignment)
    return workflow


def run(server, workflow, folder, pictures):
    """Uploads pictures (name to picture), runs what `workflow` makes of the uploaded names; the saved edits."""

    async def go():
        async with ComfyClient(server.url) as client:
            names = {}
            for name, picture in pictures.items():
                picture.save(folder / f"{name}.png")
                names[name] = await client.upload_picture(folder / f"{name}.png")
            result = await client.run(workflow(names))
            edits = [p for p in result.pictures if p.kind == "output" and "before_after" not in p.filename]
            return [await client.download(edit) for edit in edits]

    return [np.asarray(Image.open(io.BytesIO(content))) for content in asyncio.run(go())]


def by_class(workflow, kind):
    return [node["inputs"] for node in workflow.values() if node["class_type"] == kind]


def test_after_three_turns_untouched_pixels_are_the_first_pictures(server, tmp_path):
    width, height = 320, 240
    corners = [(20, 30), (130, 130), (240, 40)]
    masks = {f"region{i}": Image.new("L", (width, height)) for i in range(3)}
    for mask, (left, top) in zip(masks.values(), corners, strict=True):
        mask.paste(255, (left, top, left + 60, top + 60))

    def filled(names):
        workflow = with_picture(quick("icedit_multi_turn.json"), names["source"])
        turns = by_class(workflow, "DiptychCreate")
        for number, turn in enumerate(turns):
            inputs = {"image": names[f"region{number}"], "channel": "red"}
            workflow[f"mask{number}"] = {"class_type": "LoadImageMask", "inputs": inputs}
            turn["region"] = [f"mask{number}", 0]
        assert len({text["editText"] for text in by_class(workflow, "InContextEditInstruction")}) == 3
        assert len({sampler["seed"] for sampler in by_class(workflow, "KSampler")}) == 3
        assert {crop["restore"] for crop in by_class(workflow, "DecodeRightHalf")} == {"blend"}
        return workflow

    source = noise(0, width, height)
    (edited,) = run(server, filled, tmp_path, {"source": source, **masks})
    source = np.asarray(source)
    untouched = np.ones((height, width), bool)
    for left, top in corners:
        inside = (slice(top, top + 60), slice(left, left + 60))
        untouched[inside] = False
        assert (edited[inside] != source[inside]).mean() > 0.1, "this turn did nothing"
    assert untouched.mean() > 0.3
    assert np.array_equal(edited[untouched], source[untouched])


def test_pictures_of_mixed_sizes_come_out_at_their_own(server, tmp_path):
    sizes = [(320, 240), (200, 300), (257, 129)]

    def filled(names):
        workflow = quick("icedit_mixed_sizes.json")
        for loader, name in zip(by_class(workflow, "LoadImage"), names.values(), strict=True):
            loader["image"] = name
        return workflow

    pictures = {f"picture{i}": noise(i, *size) for i, size in enumerate(sizes)}
    edits = run(server, filled, tmp_path, pictures)
    assert [(edit.shape[1], edit.shape[0]) for edit in edits] == sizes
    for edit, picture in zip(edits, pictures.values(), strict=True):
        assert not np.array_equal(edit, np.asarray(picture))
