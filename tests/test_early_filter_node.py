"""The sampler nodes on the real host."""

import json

import pytest
import torch
from support.judges import ScriptedJudge, by_seed

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def stack(host):
    """Model, VAE, conditionings and a masked latent of a small diptych."""
    model, clip, vae = host.load_model(), host.load_clip(), host.load_vae()
    source = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(5))
    diptych, mask, _, _ = host.call("DiptychCreate", image="None", image_input=source, panel_width=64)
    positive, _, instruction = host.call("InContextEditInstruction", editText="make it red", clip=clip)
    (negative,) = host.call("ConditioningZeroOut", conditioning=positive)
    positive, negative, latent = host.call(
        "ICEFConditioning", In_context=positive, negative=negative, vae=vae, diptych=diptych, maskDiptych=mask
    )
    return {"model": model, "vae": vae, "positive": positive, "negative": negative, "latent": latent}


def test_the_result_is_ksamplers(host, stack):
    common = {
        "model": stack["model"], "steps": 6, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
        "positive": stack["positive"], "negative": stack["negative"], "latent_image": stack["latent"], "denoise": 1.0,
    }  # fmt: skip
    latent, previews, seed, report = host.call(
        "EarlyFilterSampler", **common, seed=7, vae=stack["vae"], instruction="make it red", candidates=4,
        probe_steps=2, keep=2, mode="resume", panel="right half", judge=ScriptedJudge(by_seed(s9=1.0, s10=0.5)),
    )  # fmt: skip
    print(report)
    assert seed == 9
    (plain,) = host.call("KSampler", **common, seed=9)
    assert torch.equal(latent["samples"], plain["samples"])
    assert json.loads(report)["evaluations"]["spent"] == 4 * 2 + 2 * 2 + 2
