"""The winner is KSampler's, bit for bit: every sampler, with and without mask, cfg 1 and 3, both nodes."""

import json

import pytest
import torch
from support.judges import ScriptedJudge, by_seed
from support.tiny_edit import edit_inputs

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("one_thread")]

# KSampler's list is only known once the host is imported, which collecting tests must not do.
SAMPLERS = [
    "euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "heunpp2", "exp_heun_2_x0",
    "exp_heun_2_x0_sde", "dpm_2", "dpm_2_ancestral", "lms", "dpmpp_2s_ancestral", "dpmpp_2s_ancestral_cfg_pp",
    "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m", "dpmpp_2m_cfg_pp", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu",
    "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm", "lcm", "ipndm",
    "ipndm_v", "deis", "res_multistep", "res_multistep_cfg_pp", "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp", "gradient_estimation", "gradient_estimation_cfg_pp", "er_sde", "seeds_2",
    "seeds_3", "sa_solver", "sa_solver_pece", "ddim", "uni_pc", "uni_pc_bh2",
]  # fmt: skip
STEPS = 5


@pytest.fixture(scope="module")
def edits(host, models):
    return {masked: edit_inputs(host, models["vae"], masked) for masked in (True, False)}


def test_every_sampler_of_the_host_is_tried_or_refused(host):
    from comfy.samplers import KSampler

    # Older hosts have fewer.
    assert set(KSampler.SAMPLERS) <= {*SAMPLERS, "dpm_fast", "dpm_adaptive"}


@pytest.fixture
def sampler(host, request):
    from comfy.samplers import KSampler

    if request.param not in KSampler.SAMPLERS:
        pytest.skip(f"this host has no {request.param}")
    return request.param


@pytest.mark.parametrize("sampler", SAMPLERS, indirect=True)
def test_in_ksamplers_place(host, models, edits, sampler):
    for masked in (True, False):
        for cfg in (1.0, 3.0):
            common = {
                "model": models["model"], "steps": STEPS, "cfg": cfg, "sampler_name": sampler, "scheduler": "simple",
                "denoise": 1.0, **edits[masked],
            }  # fmt: skip
            latent, _, seed, report = host.call(
                "EarlyFilterSampler", **common, seed=3, vae=models["vae"], instruction="", candidates=2, probe_steps=2,
                keep=1, mode="resume", panel="right half", judge=ScriptedJudge(by_seed(s4=1.0)),
            )  # fmt: skip
            assert seed == 4
            (plain,) = host.call("KSampler", **common, seed=seed)
            assert torch.equal(latent["samples"], plain["samples"]), (masked, cfg)
            assert torch.isfinite(latent["samples"]).all()
            told = json.loads(report)
            spent = told["evaluations"]
            assert not told["pictures"][0]["model_changed"]
            # Both probes, and of the winner only what its probe had not done.
            assert spent["no_filter"] < spent["spent"] < 2 * spent["no_filter"]


@pytest.mark.parametrize("sampler", SAMPLERS, indirect=True)
def test_in_custom_samplers_place(host, models, edits, sampler):
    for masked in (True, False):
        for cfg in (1.0, 3.0):
            edit = edits[masked]
            (guider,) = host.call(
                "CFGGuider", model=models["model"], positive=edit["positive"], negative=edit["negative"], cfg=cfg
            )
            (method,) = host.call("KSamplerSelect", sampler_name=sampler)
            (sigmas,) = host.call("BasicScheduler", model=models["model"], scheduler="beta", steps=STEPS, denoise=0.8)
            common = {"guider": guider, "sampler": method, "sigmas": sigmas, "latent_image": edit["latent_image"]}
            # Two looks: the winner is resumed twice.
            latent, _, seed, report = host.call(
                "EarlyFilterSamplerAdvanced", **common, seed=3, vae=models["vae"], instruction="", candidates=3,
                probe_steps=1, keep=2, mode="resume", panel="right half", judge=ScriptedJudge(by_seed(s5=1.0)),
            )  # fmt: skip
            assert seed == 5
            (noise,) = host.call("RandomNoise", noise_seed=seed)
            plain, _ = host.call("SamplerCustomAdvanced", noise=noise, **common)
            assert torch.equal(latent["samples"], plain["samples"]), (masked, cfg)
            told = json.loads(report)
            spent = told["evaluations"]
            assert not told["pictures"][0]["model_changed"]
            assert spent["no_filter"] < spent["spent"] < 3 * spent["no_filter"]
