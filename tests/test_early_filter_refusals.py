"""What the sampler nodes refuse before they sample."""

import math

import pytest
import torch
from support.early_filter import counting
from support.judges import ScriptedJudge, by_seed

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("one_thread")]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sampler_name": "dpm_adaptive"}, "chooses its own steps"),
        ({"sampler_name": "dpm_fast"}, "chooses its own steps"),
        ({"probe_steps": 5}, "only 4 steps"),
        ({"denoise": 0.0}, "no steps"),
        ({"denoise": math.nan}, "denoise is nan, expected 0 to 1"),
        ({"cfg": math.nan}, "cfg is nan, expected a finite number"),
        ({"cfg": math.inf}, "cfg is inf, expected a finite number"),
        ({"latent_image": {"samples": torch.zeros(1, 16, 4, 8)}}, "latent_image is empty"),
        ({"latent_image": {"samples": torch.ones(1, 16, 3, 4, 8)}}, "video of 3 frames"),
        ({"latent_image": {"samples": torch.ones(16, 4)}}, "no picture latent"),
    ],
)
def test_what_cannot_be_filtered_is_refused_before_sampling(filtered, models, changes, word):
    model, count = counting(models["model"])
    with pytest.raises(ValueError, match=word):
        filtered(**changes, model=model)
    assert count[0] == 0


@pytest.mark.parametrize(
    ("cfg", "last", "word"),
    [(math.nan, 0.0, "cfg is nan, expected a finite number"), (1.0, math.nan, "sigmas hold NaN")],
)
def test_numbers_that_are_none_are_refused_in_custom_samplers_place(host, models, edit, cfg, last, word):
    conds = {"positive": edit["positive"], "negative": edit["negative"]}
    (guider,) = host.call("CFGGuider", model=models["model"], **conds, cfg=cfg)
    (method,) = host.call("KSamplerSelect", sampler_name="euler")
    with pytest.raises(ValueError, match=word):
        host.call(
            "EarlyFilterSamplerAdvanced", guider=guider, sampler=method, sigmas=torch.tensor([1.0, 0.5, last]),
            latent_image=edit["latent_image"], seed=3, vae=models["vae"], instruction="", candidates=2, probe_steps=1,
            keep=1, mode="resume", panel="right half",
        )  # fmt: skip


def test_samplers_with_steps_of_their_own_are_not_offered(host):
    import nodes
    from comfy.samplers import KSampler

    offered = nodes.NODE_CLASS_MAPPINGS["EarlyFilterSampler"].INPUT_TYPES()["required"]["sampler_name"]
    assert set(KSampler.SAMPLERS) - set(offered[1]["options"]) == {"dpm_fast", "dpm_adaptive"}


def test_easycache_is_refused_and_lazycache_resumed(host, filtered, plain, models):
    settings = {"reuse_threshold": 0.2, "start_percent": 0.1, "end_percent": 0.95, "verbose": False}
    (cached,) = host.call("EasyCache", model=models["model"], **settings)
    with pytest.raises(ValueError, match="EasyCache"):
        filtered(model=cached)
    (lazy,) = host.call("LazyCache", model=models["model"], **settings)
    samples, _, seed, _ = filtered(model=lazy, steps=8, probe_steps=4, judge=ScriptedJudge(by_seed(s4=1.0)))
    assert torch.equal(samples, plain(model=lazy, steps=8, seed=seed))
