"""The shipped filter workflow over HTTP, beside a KSampler with the seed that the filter chose."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
from icedit.headless.client import ComfyClient
from icedit.headless.workflow import load_workflow, with_picture, with_value
from PIL import Image

pytestmark = pytest.mark.server

WORKFLOW = Path(__file__).resolve().parent.parent / "workflows" / "api" / "icedit_early_filter.json"
# fmt: off
KSAMPLER = (
    "model", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image", "denoise",
)
# fmt: on


def test_no_pixel_differs_from_ksamplers(server, tmp_path):
    workflow = load_workflow(WORKFLOW)
    for change in ("steps=4", "candidates=3", "probe_steps=1", "keep=2", "seed=11"):
        workflow = with_value(workflow, f"EarlyFilterSampler.{change}")
    workflow = with_value(workflow, "DiptychCreate.panel_width=128")
    ((key, sampler),) = ((key, node) for key, node in workflow.items() if node["class_type"] == "EarlyFilterSampler")
    inputs = {name: sampler["inputs"][name] for name in KSAMPLER}
    vae = sampler["inputs"]["vae"]
    workflow |= {
        "plain": {"class_type": "KSampler", "inputs": inputs | {"seed": [key, 2]}},
        "plain decoded": {"class_type": "VAEDecode", "inputs": {"samples": ["plain", 0], "vae": vae}},
        "decoded": {"class_type": "VAEDecode", "inputs": {"samples": [key, 0], "vae": vae}},
        "save plain": {"class_type": "SaveImage", "inputs": {"images": ["plain decoded", 0], "filename_prefix": "p"}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["decoded", 0], "filename_prefix": "f"}},
    }
    Image.effect_noise((160, 120), 80).convert("RGB").resize((640, 480)).save(tmp_path / "noise.png")

    async def go():
        async with ComfyClient(server.url) as client:
            result = await client.run(with_picture(workflow, await client.upload_picture(tmp_path / "noise.png")))
            return {picture.node: await client.download(picture) for picture in result.pictures}

    pictures = {node: np.asarray(Image.open(io.BytesIO(data))).astype(int) for node, data in asyncio.run(go()).items()}
    filtered, plain = pictures["save"], pictures["save plain"]
    assert filtered.std() > 1
    assert np.abs(filtered - plain).max() == 0
    # The captioned previews are shown on the sampler itself.
    assert key in pictures
