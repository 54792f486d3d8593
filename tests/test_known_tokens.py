"""Reuse Known Tokens on the real host, with a tiny FLUX.1-Fill: right results, and what a run leaves behind."""

import pytest
import torch
from support.known_tokens import EXACT, STEPS, off, pairs_off
from support.tiny_edit import edit_inputs

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("shows_values")]


@pytest.mark.parametrize("changes", [{}, {"cfg": 3.0, "sampler_name": "dpmpp_2m_sde"}])
def test_refreshed_in_every_step_it_is_bit_for_bit_as_without(host, models, sampled, reusing, said, changes):
    plain = sampled(**changes)
    (every,) = host.call("ReuseKnownTokens", model=models["model"], refresh_every=1, first_steps=4, unchanged="masked")
    assert torch.equal(sampled(every, **changes), plain)
    # Here the steps keep tokens, and none uses them.
    assert torch.equal(sampled(reusing(first_steps=STEPS), **changes), plain)
    assert f"{STEPS} evaluations of the model in full, 0 short ones" in said[0]


def test_short_steps_leave_out_tokens_and_come_near(host, models, sampled, reusing, said):
    plain, reused = sampled(), sampled(reusing())
    assert not torch.equal(reused, plain)
    # 0.01 to 0.03 by what is random.
    assert off(reused, plain) < 0.1
    assert torch.equal(reused[..., :4], plain[..., :4])
    # 8 tokens of text, 4 of 8 of the picture; 2 blocks; float32.
    (note,) = said
    assert note.startswith("3 evaluations of the model in full, 3 short ones with 75% of the tokens, 0 left out")
    assert "the work of 5.2 instead of 6" in note


def test_a_short_call_is_a_full_one_where_what_is_known_does_not_change(twice, reusing):
    """At the same noise level the known tokens' keys and values are those of the full call before."""
    found = twice(reusing(first_steps=3))
    assert len(found) == 6
    assert not any(torch.equal(first, second) for first, second in zip(found[::2], found[1::2], strict=True))
    assert pairs_off(found) < EXACT


def test_a_short_call_is_a_full_one_with_the_kept_keys_and_values(host, models, edit, sampled, reusing):
    """Against the host's own call in full, in which they are put in the places of the known tokens."""
    kept, at = {}, torch.tensor([0, 1, 4, 5]) + 8
    evaluations = [0]

    def patch(q, k, v, extra_options, **_):
        block = extra_options["block_type"], extra_options["block_index"]
        evaluations[0] += block == ("double", 0)
        if evaluations[0] == 1:
            kept[block] = k[:, :, at].clone(), v[:, :, at].clone()
            return {}
        k, v = k.clone(), v.clone()
        k[:, :, at], v[:, :, at] = kept[block]
        return {"k": k, "v": v}

    reference = models["model"].clone()
    reference.set_model_attn1_patch(patch)
    expected = sampled(reference, steps=3)
    assert off(sampled(), expected) > 100 * EXACT
    assert off(sampled(reusing(refresh_every=100, first_steps=1), steps=3), expected) < EXACT


SAMPLERS = [
    "euler_ancestral", "euler_cfg_pp", "heun", "dpm_2", "dpm_adaptive", "dpmpp_2m", "dpmpp_3m_sde", "uni_pc",
    "sa_solver_pece", "seeds_3",
]  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers(sampled, reusing, said, sampler):
    changes = {"sampler_name": sampler, "cfg": 1.0 if sampler == "dpm_adaptive" else 2.0}
    plain = sampled(**changes)
    reused = sampled(reusing(), **changes)
    assert 0 < off(reused, plain) < 0.3
    assert " 0 short ones" not in said[0]


def test_conditionings_apart_and_together(models, sampled, reusing, said, monkeypatch):
    import comfy.model_base

    together = sampled(reusing(), cfg=3.0)
    calls, required = [0], comfy.model_base.BaseModel.memory_required

    def changing(self, input_shape, cond_shapes={}):  # noqa: B006
        # Every other evaluation there seems to be no room for two conditionings together.
        calls[0] += input_shape[0] > 1
        return 1e30 if input_shape[0] > 1 and calls[0] % 2 else required(self, input_shape, cond_shapes)

    monkeypatch.setattr(comfy.model_base.BaseModel, "memory_required", changing)
    assert off(sampled(reusing(), cfg=3.0), together) < EXACT
    assert said[0] == said[1]


def test_a_batch_of_different_regions(host, models, sampled, reusing, said):
    """Tokens that are open in one picture are computed in all."""
    batch = edit_inputs(host, models["vae"], batch=2)
    mask = batch["latent_image"]["noise_mask"].clone()
    mask[0, ..., 32:48], mask[1, ..., 48:] = 0, 0
    parted = batch | {"latent_image": batch["latent_image"] | {"noise_mask": mask}}
    plain, reused = sampled(**parted), sampled(reusing(), **parted)
    for one, other in zip(reused, plain, strict=True):
        assert 0 < off(one, other) < 0.1
    assert "75% of the tokens" in said[0]


def test_without_a_mask_nothing_is_known(host, models, sampled, reusing, said):
    bare = edit_inputs(host, models["vae"], masked=False)
    assert torch.equal(sampled(reusing(), **bare), sampled(**bare))
    (note,) = said
    assert note.startswith("Nothing is known here, so every step is computed in full")
    keeps_all = {"latent_image": bare["latent_image"] | {"noise_mask": torch.zeros(1, 32, 64)}}
    assert torch.equal(sampled(reusing(), **keeps_all), sampled(**keeps_all))
    assert said[1] == "The noise mask keeps the whole picture, so nothing is left out."


def test_refresh_every_above_steps_is_pointed_out(sampled, reusing, said):
    sampled(reusing(refresh_every=STEPS))
    assert f"refresh_every is {STEPS} and there are {STEPS} steps" in said[0]
