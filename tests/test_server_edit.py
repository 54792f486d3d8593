"""The main job over HTTP: the shipped workflow, the client, what goes wrong."""

import asyncio
import io
import json
import socket
import urllib.request
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from icedit.headless.batch import Edit, run_edits
from icedit.headless.client import ComfyClient, ComfyError
from icedit.headless.workflow import load_workflow, with_instruction, with_picture, with_seed, with_value
from PIL import Image

pytestmark = pytest.mark.server

WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "grass & sky.png"
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((640, 480)).save(path)
    return path


@pytest.fixture(scope="module")
def quick():
    """The shipped workflow with small panels and few steps."""
    workflow = load_workflow(WORKFLOWS / "api" / "icedit.json")
    for assignment in ("DiptychCreate.panel_width=128", "KSampler.steps=2"):
        workflow = with_value(workflow, assignment)
    return workflow


def run(server, workflow, picture, instruction="make it red"):
    """The saved pictures' contents, in the workflow's order; `picture` is a file or the name of one on the server."""

    async def go():
        async with ComfyClient(server.url) as client:
            name = picture if isinstance(picture, str) else await client.upload_picture(picture)
            result = await client.run(with_instruction(with_picture(workflow, name), instruction))
            return [await client.download(saved) for saved in result.pictures if saved.kind == "output"]

    return [np.asarray(Image.open(io.BytesIO(content))) for content in asyncio.run(go())]


def painted(server, picture, mask: Image.Image) -> str:
    """Put a mask onto a picture as the page's mask editor does; the name that it gives to the picture widget."""

    async def go():
        async with ComfyClient(server.url) as client:
            folder, _, name = (await client.upload_picture(picture)).rpartition("/")
        content = io.BytesIO()
        mask.save(content, "png")
        form = aiohttp.FormData()
        form.add_field("image", content.getvalue(), filename="clipspace-painted-masked-1764000000000.png")
        form.add_field("original_ref", json.dumps({"filename": name, "subfolder": folder, "type": "input"}))
        form.add_field("type", "input")
        form.add_field("subfolder", "clipspace")
        async with aiohttp.ClientSession() as session, session.post(f"{server.url}/upload/mask", data=form) as answer:
            saved = await answer.json()
        return f"{saved['subfolder']}/{saved['name']} [{saved['type']}]"

    return asyncio.run(go())


class TestEdit:
    def test_the_shipped_workflow_gives_pictures_of_the_right_size(self, server, quick, picture):
        edited, both = run(server, quick, picture)
        assert edited.shape == (480, 640, 3)
        assert both.shape[1] > 2 * 640

    def test_the_panel_alone_has_the_panels_size(self, server, quick, picture):
        edited, _ = run(server, with_value(quick, "DecodeRightHalf.restore=panel"), picture)
        assert edited.shape == (96, 128, 3)

    def test_the_seed_decides(self, server, quick, picture):
        first, second, other = (run(server, with_seed(quick, seed), picture)[0] for seed in (5, 5, 6))
        assert np.array_equal(first, second)
        assert not np.array_equal(first, other)

    def test_the_instruction_decides(self, server, quick, picture):
        red, blue = (run(server, quick, picture, f"make it {color}")[0] for color in ("red", "blue"))
        assert not np.array_equal(red, blue)

    def test_only_what_was_painted_in_the_mask_editor_changes(self, server, quick, picture):
        mask = Image.new("RGBA", (640, 480), (0, 0, 0, 255))
        mask.paste((0, 0, 0, 0), (160, 120, 320, 240))
        (edited, _) = run(server, quick, painted(server, picture, mask))
        source = np.asarray(Image.open(picture))
        changed = (edited != source).any(-1)
        assert changed[120:240, 160:320].mean() > 0.5
        # A cell of the latent is 8 pixels of the panel, each 5 of the picture, and the seam is soft.
        changed[70:290, 110:370] = False
        assert not changed.any()

    def test_a_file_that_is_gone_does_not_matter_beside_a_linked_picture(self, server, quick, picture):
        (diptych,) = (key for key, node in quick.items() if node["class_type"] == "DiptychCreate")
        linked = with_value(quick, f'{diptych}.image_input=["load", 0]')
        linked["load"] = {"class_type": "LoadImage", "inputs": {"image": ""}}

        async def go():
            async with ComfyClient(server.url) as client:
                linked["load"]["inputs"]["image"] = await client.upload_picture(picture)
                return await client.run(with_value(linked, f"{diptych}.image=gone.png"))

        assert [saved for saved in asyncio.run(go()).pictures if saved.kind == "output"]

    def test_a_prompt_for_the_earlier_official_pack_runs_unchanged(self, server, picture):
        prompt = json.loads((Path(__file__).parent / "data" / "official_pack_prompt.json").read_text())

        async def go():
            async with ComfyClient(server.url) as client:
                name = await client.upload_picture(picture)
                return await client.run(with_picture(prompt, name))

        result = asyncio.run(go())
        assert len(result.pictures) == 1


class TestBatch:
    def test_one_that_fails_does_not_lose_the_others(self, server, quick, picture, tmp_path):
        damaged = tmp_path / "damaged.png"
        damaged.write_bytes(picture.read_bytes()[:200])
        edits = [Edit(damaged, "a"), Edit(tmp_path / "gone.png", "b"), Edit(picture, ""), Edit(picture, "d")]
        steps = []
        outcomes = asyncio.run(
            run_edits(server.url, quick, edits, tmp_path / "out", lambda _, progress: steps.append(progress))
        )
        assert "damaged or incomplete" in (outcomes[0].error or "")
        assert "gone.png cannot be read" in (outcomes[1].error or "")
        assert "instruction is empty" in (outcomes[2].error or "")
        assert outcomes[3].error is None
        assert [file.name for file in outcomes[3].files] == [
            "grass & sky_icedit_001.png",
            "grass & sky_icedit_before_after_001.png",
        ]
        assert all(file.stat().st_size > 1000 for file in outcomes[3].files)
        assert [(step.node, step.value, step.total) for step in steps] == [("KSampler", 1, 2), ("KSampler", 2, 2)]

    def test_results_are_never_overwritten(self, server, quick, picture, tmp_path):
        for number in ("001", "002"):
            (outcome,) = asyncio.run(run_edits(server.url, quick, [Edit(picture, "x")], tmp_path))
            assert outcome.files[0].name == f"grass & sky_icedit_{number}.png"


class TestFailures:
    def test_a_missing_model_file_is_named(self, server, quick, picture):
        with pytest.raises(ComfyError, match=r"UNETLoader.*nothing\.safetensors"):
            run(server, with_value(quick, "UNETLoader.unet_name=nothing.safetensors"), picture)

    def test_a_path_out_of_the_input_folder_is_refused(self, server, quick):
        async def go():
            async with ComfyClient(server.url) as client:
                await client.run(with_picture(quick, "../../secret.png"))

        with pytest.raises(ComfyError, match="outside ComfyUI's input folder"):
            asyncio.run(go())

    def test_nobody_answers(self, quick):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"

        async def go():
            async with ComfyClient(url) as client:
                await client.run(quick)

        with pytest.raises(ComfyError, match=rf"connection to {url} failed.*Check that ComfyUI is running"):
            asyncio.run(go())

    def test_a_cancelled_run_is_taken_back(self, server, quick, picture):
        async def go():
            async with ComfyClient(server.url) as client:
                name = await client.upload_picture(picture)
                long = with_value(with_picture(quick, name), "KSampler.steps=10000")
                started = asyncio.Event()
                task = asyncio.create_task(client.run(long, lambda _: started.set()))
                await asyncio.wait_for(started.wait(), 60)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                for _ in range(100):
                    with urllib.request.urlopen(f"{server.url}/queue") as answer:
                        if not json.load(answer)["queue_running"]:
                            return
                    await asyncio.sleep(0.1)
                pytest.fail("the server still works on the cancelled prompt")

        asyncio.run(go())
