"""The early filter over a model that reuses known tokens: the winner is what KSampler makes of that model."""

import json

import pytest
import torch
from support.hosts import need_shown_values
from support.judges import ScriptedJudge, by_seed

pytestmark = pytest.mark.host

STEPS = 10


@pytest.fixture(scope="module")
def filtered(host, models, edit):
    """The winner of a filter over a model with the node, its report, and what KSampler gives for the winner's seed."""

    def run(node, sampler_name="euler", cfg=1.0, **filtering):
        (model,) = host.call("ReuseKnownTokens", model=models["model"], **node)
        common = {
            "model": model, "steps": STEPS, "cfg": cfg, "sampler_name": sampler_name, "scheduler": "simple",
            "denoise": 1.0, **edit,
        }  # fmt: skip
        asked = {"candidates": 3, "probe_steps": 3, "keep": 2, "mode": "resume"} | filtering
        latent, _, seed, report = host.call(
            "EarlyFilterSampler", **common, **asked, seed=3, vae=models["vae"], instruction="", panel="right half",
            judge=ScriptedJudge(by_seed(s4=1.0)),
        )  # fmt: skip
        assert seed == 4
        (plain,) = host.call("KSampler", **common, seed=seed)
        return latent["samples"], json.loads(report), plain["samples"]

    return run


NODE = {"refresh_every": 3, "first_steps": 1, "unchanged": "masked", "skip_steps": 0.0}


@pytest.mark.parametrize(
    "changes",
    [{}, {"first_steps": 2}, {"unchanged": "masked and unchanged"}, {"skip_steps": 0.05}, {"refresh_every": 1}],
    ids=str,
)
def test_the_winner_is_bit_for_bit_that_of_one_run(filtered, changes):
    winner, report, plain = filtered(NODE | changes)
    assert torch.equal(winner, plain)
    assert report["exact"] and not report["pictures"][0]["model_changed"]


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "euler_ancestral", "dpmpp_2s_ancestral", "uni_pc"])
def test_with_other_samplers_too(filtered, sampler):
    winner, report, plain = filtered(NODE, sampler, cfg=2.0)
    assert torch.equal(winner, plain)
    assert report["exact"]


def test_compute_is_counted_and_not_calls(filtered):
    need_shown_values()
    _, without, _ = filtered(NODE | {"refresh_every": 1})
    _, report, _ = filtered(NODE)
    assert without["evaluations"]["work"] == without["evaluations"]["spent"]
    assert report["evaluations"]["work"] < 0.9 * report["evaluations"]["spent"]
    assert report["evaluations"]["no_filter"] == STEPS


def test_a_step_left_out_is_one_that_the_sampler_asked_for(filtered):
    need_shown_values()
    _, report, _ = filtered(NODE | {"skip_steps": 0.5})
    assert report["evaluations"]["no_filter"] == STEPS
    assert report["evaluations"]["spent"] < without_skipping(filtered)


def without_skipping(filtered):
    return filtered(NODE)[1]["evaluations"]["spent"]


def test_in_the_papers_mode_every_run_is_one_of_its_own(filtered):
    need_shown_values()
    winner, report, plain = filtered(NODE, mode="paper")
    assert torch.equal(winner, plain)
    spent = report["evaluations"]
    assert spent["spent"] == 3 * 3 + STEPS
    assert spent["work"] < spent["spent"]
