"""What nobody asked for is not computed, and is there when a later prompt asks for it."""

import asyncio
import io
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from comfy_execution.graph import DynamicPrompt
from comfy_execution.graph_utils import ExecutionBlocker
from comfy_execution.progress import reset_progress_state
from comfy_execution.utils import CurrentNodeContext
from icedit.headless.client import ComfyClient
from PIL import Image


@contextmanager
def running(prompt, node="crop", expanded=None):
    """As the host's executor does it around a node."""
    dynamic = DynamicPrompt(prompt)
    if expanded:
        dynamic.add_ephemeral_node(node, expanded, "parent", "parent")
    reset_progress_state("the prompt", dynamic)
    try:
        with CurrentNodeContext("the prompt", node, 0):
            yield
    finally:
        reset_progress_state("", DynamicPrompt({}))


def prompt_of(*links):
    prompt = {"crop": {"class_type": "CropRightHalf", "inputs": {"image": ["decode", 0]}}}
    for number, link in enumerate(links):
        prompt[f"user {number}"] = {
            "class_type": "MaskPreview",
            "inputs": {"mask": link, "list": ["crop", 1, 2]},
        }
    return prompt


@pytest.mark.host
class TestNode:
    @pytest.fixture
    def diptych(self):
        diptych = torch.full((1, 128, 256, 3), 0.4)
        diptych[:, 40:90, 170:220] = torch.tensor([0.9, 0.1, 0.1])
        return diptych

    def changed(self, host, diptych):
        image, changed = host.call("CropRightHalf", image=diptych)
        assert torch.equal(image, diptych[:, :, 128:])
        return changed

    def fingerprint(self, **inputs):
        import nodes

        return nodes.NODE_CLASS_MAPPINGS["CropRightHalf"].fingerprint_inputs(**inputs)

    @pytest.mark.parametrize("links", [(), (["crop", 0],), (["other", 1], ["crop", 0])])
    def test_not_linked_is_not_computed(self, host, diptych, links):
        with running(prompt_of(*links)):
            skipped = self.changed(host, diptych)
            assert self.fingerprint() is False
        assert isinstance(skipped, ExecutionBlocker)
        assert "changed was not computed" in skipped.message

    @pytest.mark.parametrize("links", [(["crop", 1],), (["crop", 0], ["other", 1], ["crop", 1])])
    def test_linked_is_computed(self, host, diptych, links):
        with running(prompt_of(*links)):
            changed = self.changed(host, diptych)
            assert self.fingerprint() is True
        assert changed[0, 45:85, 45:85].min() == 1
        assert changed[0, :20].max() == 0

    def test_what_a_node_expands_into_may_give_that_nodes_own_outputs(self, host, diptych):
        expanded = {"class_type": "CropRightHalf", "inputs": {"image": ["decode", 0]}}
        with running({"parent": {"class_type": "Loop", "inputs": {}}}, node="crop", expanded=expanded):
            assert self.changed(host, diptych).max() == 1

    def test_scripts_without_a_prompt_get_it(self, host, diptych):
        assert self.changed(host, diptych).max() == 1

    def test_modes_that_have_it_anyway_do_not_run_again_for_a_link(self, host):
        with running(prompt_of()):
            assert self.fingerprint(restore="blend") is self.fingerprint(restore="resize") is True
            assert self.fingerprint(restore="panel") is False
            # Linked: the host does not say its value.
            assert self.fingerprint(restore=None) is False


@pytest.mark.server
def test_a_link_made_later_gets_it(server, tmp_path):
    """The same server, which keeps what nodes gave: without the link, with it, and without it again."""
    pixels = np.full((128, 256, 3), 100, np.uint8)
    pixels[40:90, 170:220] = (230, 25, 25)
    Image.fromarray(pixels).save(tmp_path / "diptych.png")

    async def go():
        async with ComfyClient(server.url) as client:
            name = await client.upload_picture(tmp_path / "diptych.png")
            prompt = {
                "load": {"class_type": "LoadImage", "inputs": {"image": name}},
                "crop": {"class_type": "CropRightHalf", "inputs": {"image": ["load", 0]}},
                "save": {"class_type": "SaveImage", "inputs": {"images": ["crop", 0], "filename_prefix": "panel"}},
            }
            mask = {
                "mask": {"class_type": "MaskToImage", "inputs": {"mask": ["crop", 1]}},
                "saved": {"class_type": "SaveImage", "inputs": {"images": ["mask", 0], "filename_prefix": "changed"}},
            }
            results = [await client.run(one) for one in (prompt, prompt | mask, prompt)]
            pictures = [[await client.download(one) for one in result.pictures] for result in results]
            return [[np.asarray(Image.open(io.BytesIO(one))) for one in saved] for saved in pictures]

    alone, both, _ = asyncio.run(go())
    assert [picture.shape for picture in alone] == [(128, 128, 3)]
    assert len(both) == 2
    changed = both[1]
    assert changed[45:85, 45:85].min() == 255
    assert changed[:20].max() == 0
