"""What the server answers to prompts that connect Create Diptych in ways its page does not offer."""

import asyncio
from typing import Any

import aiohttp
import pytest
from icedit.headless.client import ComfyClient
from PIL import Image

pytestmark = pytest.mark.server

PICTURE = {"class_type": "EmptyImage", "inputs": {"width": 96, "height": 96, "batch_size": 1, "color": 255}}


def prompt(**inputs: Any) -> dict[str, Any]:
    return {
        "picture": PICTURE,
        "mask": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 96, "height": 96}},
        # Takes and gives anything, so that no check of types sees what goes through it.
        "any": {
            "class_type": "ComfySwitchNode",
            "inputs": {"switch": True, "on_true": ["picture", 0], "on_false": ["picture", 0]},
        },
        "diptych": {"class_type": "DiptychCreate", "inputs": {"panel_width": 64, **inputs}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["diptych", 0], "filename_prefix": "inputs"}},
    }


def refusal(server, **inputs: Any) -> str:
    async def go() -> str:
        request = {"prompt": prompt(**inputs)}
        async with aiohttp.ClientSession() as session, session.post(f"{server.url}/prompt", json=request) as answer:
            assert answer.status == 400
            return await answer.text()

    return asyncio.run(go())


def run(server, **inputs: Any) -> Any:
    async def go() -> Any:
        async with ComfyClient(server.url) as client:
            return await client.run(prompt(**inputs))

    return asyncio.run(go())


def test_image_left_out_is_none(server):
    assert len(run(server, image_input=["picture", 0]).pictures) == 1


def test_nothing_at_all_says_what_is_missing(server):
    with pytest.raises(Exception, match="There is no picture to edit"):
        run(server)


def test_a_picture_in_image_is_told_of_image_input(server):
    assert "Connect it to image_input instead" in refusal(server, image=["picture", 0])


def test_a_picture_in_image_through_a_node_for_anything(server):
    with pytest.raises(Exception, match="Connect it to image_input instead"):
        run(server, image=["any", 0])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"image_input": ["mask", 0]}, "image_input is connected to an output of type MASK, expected IMAGE."),
        ({"image_input": ["picture", 0], "region": ["picture", 0]}, "region is connected to an output of type IMAGE"),
        ({"image": ["mask", 0]}, "image is connected to an output of type MASK"),
    ],
)
def test_other_wrong_links_are_refused_too(server, wrong, sentence):
    assert sentence in refusal(server, **wrong)


def test_the_earlier_name_of_a_fit_still_runs(server):
    assert len(run(server, image_input=["picture", 0], fit="width 512").pictures) == 1


def test_a_fit_that_never_was_is_refused(server):
    assert "'width 640' not in" in refusal(server, image_input=["picture", 0], fit="width 640")


def test_a_name_that_another_node_gives(server):
    Image.new("RGB", (96, 96)).save(server.folder / "input" / "named.png")
    name = {"class_type": "PrimitiveString", "inputs": {"value": "named.png"}}

    async def go() -> Any:
        graph = prompt(image=["any", 0])
        graph["name"] = name
        graph["any"]["inputs"] |= {"on_true": ["name", 0], "on_false": ["name", 0]}
        async with ComfyClient(server.url) as client:
            return await client.run(graph)

    assert len(asyncio.run(go()).pictures) == 1
