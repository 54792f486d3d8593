"""Reuse Known Tokens on the real host, with a tiny FLUX.1-Fill."""

import pytest
import torch
from support.tiny_edit import edit_inputs

pytestmark = pytest.mark.host

STEPS = 6


@pytest.fixture(scope="module")
def models(host):
    return {"model": host.load_model(), "vae": host.load_vae()}


@pytest.fixture(scope="module")
def edit(host, models):
    return edit_inputs(host, models["vae"])


@pytest.fixture
def sampled(host, models, edit):
    """Runs KSampler with small defaults; changes by name."""

    def run(model=None, **changes):
        inputs = {
            "model": model or models["model"], "seed": 3, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler",
            "scheduler": "simple", "denoise": 1.0,
        }  # fmt: skip
        return host.call("KSampler", **inputs | edit | changes)[0]["samples"]

    return run


@pytest.fixture
def reusing(host, models):
    def node(model=None, **changes):
        inputs = {"refresh_every": 3, "first_steps": 2, "unchanged": "masked"}
        return host.call("ReuseKnownTokens", model=model or models["model"], **inputs | changes)[0]

    return node


def test_refreshed_in_every_step_it_is_bit_for_bit_as_without(sampled, reusing):
    assert torch.equal(sampled(reusing(refresh_every=1)), sampled())
    # Here the steps record what is kept, and no step uses it.
    assert torch.equal(sampled(reusing(first_steps=STEPS)), sampled())


def test_short_steps_come_near(sampled, reusing):
    plain, reused = sampled(), sampled(reusing())
    assert not torch.equal(reused, plain)
    assert float((reused - plain).norm() / plain.norm()) < 0.2
    assert torch.equal(reused[..., :4], plain[..., :4])
