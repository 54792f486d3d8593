"""The user picks: candidates first, then only the picked one goes on, and is KSampler's bit for bit."""

import gc
import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from support.tiny_edit import conditioning, edit_inputs

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("one_thread")]

STEPS = 5


@pytest.fixture
def kept(host):
    """What is kept of all nodes: nothing at first."""
    found = host.module("nodes.early_filter_pick").KEPT
    found.clear()
    yield found
    found.clear()


@dataclass(frozen=True)
class Run:
    """What the node gave; `samples` is None where everything after it is blocked."""

    samples: torch.Tensor | None
    previews: torch.Tensor
    seed: Any
    report: dict[str, Any]

    @property
    def spent(self) -> int:
        return self.report["evaluations"]["spent"]

    @property
    def shown(self) -> list[int]:
        return [candidate["seed"] for candidate in self.report["pictures"][0]["candidates"]]


def run_of(outputs) -> Run:
    from comfy_execution.graph_utils import ExecutionBlocker

    latent, previews, seed, report = outputs
    if isinstance(latent, ExecutionBlocker):
        assert isinstance(seed, ExecutionBlocker) and latent.message is None
        return Run(None, previews, None, json.loads(report))
    return Run(latent["samples"], previews, seed, json.loads(report))


@pytest.fixture
def picking(host, models, edit, kept):
    """Runs EarlyFilterSampler with choose me; other inputs by name."""

    def run(picked="", **changes):
        inputs = {
            "seed": 3, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
            "instruction": "", "candidates": 3, "probe_steps": 2, "keep": 1, "mode": "resume", "panel": "right half",
            "choose": "me", "picked": picked,
        }  # fmt: skip
        return run_of(host.call("EarlyFilterSampler", **models | edit | inputs | changes))

    return run


@pytest.fixture
def plain(plain):
    """KSampler's samples for a seed."""

    def run(seed, **changes):
        return plain(**{"steps": STEPS} | changes, seed=seed)

    return run


def test_first_the_candidates_then_only_the_picked_one_goes_on(picking, plain):
    first = picking()
    assert first.samples is None
    assert (first.spent, first.shown, len(first.previews)) == (3 * 2, [3, 4, 5], 3)
    assert first.report["seeds"] == []

    second = picking("4")
    assert torch.equal(second.samples, plain(4))
    # One evaluation more sees whether the model still answers as before.
    assert (second.spent, second.seed, second.shown) == (STEPS - 2 + 1, 4, [3, 4, 5])
    assert torch.equal(second.previews, first.previews)
    assert second.report["exact"] and "went on from step 2" in second.report["pictures"][0]["why"]

    other = picking("#3")
    assert torch.equal(other.samples, plain(5))
    assert (other.spent, other.seed) == (STEPS - 2 + 1, 5)

    again = picking("4")
    assert torch.equal(again.samples, second.samples)
    assert again.spent == 0 and "finished before" in again.report["pictures"][0]["why"]


def test_what_is_not_kept_is_run_from_its_seed(picking, plain, kept):
    picking()
    kept.clear()
    after = picking("4")
    assert torch.equal(after.samples, plain(4))
    assert (after.spent, after.shown) == (STEPS + 1, [4])
    assert "None of its steps were kept" in after.report["pictures"][0]["why"]


def counting(model):
    """A clone of a model that counts its calls, and the count as a list of one."""
    from comfy.patcher_extension import WrappersMP

    count, clone = [0], model.clone()

    def call(executor, *args, **kwargs):
        count[0] += 1
        return executor(*args, **kwargs)

    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "count", call)
    return clone, count


@pytest.mark.parametrize(
    ("sampler", "masked"),
    [("euler", False), ("heun", True), ("dpmpp_2m_sde", False), ("euler_ancestral_cfg_pp", True), ("uni_pc", True)],
)
def test_other_samplers_with_and_without_mask_and_guidance(host, models, picking, plain, sampler, masked):
    edit = edit_inputs(host, models["vae"], masked)
    model, count = counting(models["model"])
    for cfg in (1.0, 3.0):
        how = {"sampler_name": sampler, "cfg": cfg, **edit}
        count[0] = 0
        first = picking(candidates=2, model=model, **how)
        second = picking("4", candidates=2, model=model, **how)
        assert count[0] == first.spent + second.spent
        assert torch.equal(second.samples, plain(4, **how))
        assert second.report["exact"] and not second.report["pictures"][0]["model_changed"]
        full = second.report["evaluations"]["no_filter"]
        assert second.spent < full < first.spent + second.spent <= 2 * full


def test_the_custom_sampler(host, models, edit, kept):
    (guider,) = host.call(
        "CFGGuider", model=models["model"], positive=edit["positive"], negative=edit["negative"], cfg=2
    )
    (method,) = host.call("KSamplerSelect", sampler_name="heun")
    (sigmas,) = host.call("BasicScheduler", model=models["model"], scheduler="beta", steps=STEPS, denoise=0.8)
    common = {"guider": guider, "sampler": method, "sigmas": sigmas, "latent_image": edit["latent_image"]}

    def run(picked, **changes):
        inputs = {
            "seed": 3, "vae": models["vae"], "instruction": "", "candidates": 2, "probe_steps": 2, "keep": 1,
            "mode": "resume", "panel": "right half", "choose": "me", "picked": picked,
        }  # fmt: skip
        return run_of(host.call("EarlyFilterSamplerAdvanced", **common | inputs | changes))

    assert run("").samples is None
    second = run("4")
    (noise,) = host.call("RandomNoise", noise_seed=4)
    whole, _ = host.call("SamplerCustomAdvanced", noise=noise, **common)
    assert torch.equal(second.samples, whole["samples"])
    assert second.report["pictures"][0]["kept_steps"] == 2
    assert run("4", sigmas=sigmas.clone()).report["pictures"][0]["kept_steps"] == 0


def test_papers_mode_runs_the_pick_from_its_start(picking, plain):
    first = picking(mode="paper")
    second = picking("4", mode="paper")
    assert torch.equal(second.samples, plain(4))
    assert (first.spent, second.spent, second.shown) == (3 * 2, STEPS, [3, 4, 5])


def test_more_candidates_and_more_steps_go_on_from_what_there_is(picking, plain):
    assert picking().spent == 3 * 2
    assert picking(candidates=5).spent == 2 * 2
    more = picking(candidates=5, probe_steps=4)
    assert more.spent == 5 * 2
    assert {candidate["step"] for candidate in more.report["pictures"][0]["candidates"]} == {4}
    # Fewer steps are seen already.
    assert picking(seed=4, probe_steps=1).spent == 0
    last = picking("6", candidates=5, probe_steps=4)
    # Of each of the two probes one evaluation is repeated.
    assert last.spent == STEPS - 4 + 2
    assert torch.equal(last.samples, plain(6))


@pytest.mark.parametrize("changed", ["model", "positive", "latent_image", "cfg", "vae", "steps"])
def test_what_was_kept_for_other_inputs_is_dropped(host, models, edit, picking, kept, changed):
    picking()
    others = {
        "model": models["model"].clone(), "positive": conditioning(11), "latent_image": dict(edit["latent_image"]),
        "cfg": 2.0, "vae": host.load_vae(), "steps": 6,
    }  # fmt: skip
    if changed == "latent_image":
        others[changed]["samples"] = others[changed]["samples"].clone()
    elif changed == "positive":
        others[changed] = [[edit["positive"][0][0], dict(edit["positive"][0][1], guidance=9.0)]]
    other = picking("4", **{changed: others[changed]})
    assert (other.report["pictures"][0]["kept_steps"], other.shown) == (0, [4])
    assert kept.count == 1


def test_what_is_kept_goes_when_its_model_goes(models, picking, kept):
    model = models["model"].clone()
    picking(model=model)
    assert kept.count == 3
    # Three previews as float16, three recordings of two evaluations and a prediction.
    assert kept.nbytes == 3 * (32 * 32 * 3 * 2 + 3 * 16 * 4 * 8 * 4)
    del model
    gc.collect()
    assert kept.count == 0


def test_an_interrupt_keeps_only_whole_probes(models, picking, plain, kept):
    from comfy.model_management import InterruptProcessingException
    from comfy.patcher_extension import WrappersMP

    left, model = [3], models["model"].clone()

    def call(executor, *args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise InterruptProcessingException
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "interrupt", call)
    with pytest.raises(InterruptProcessingException):
        picking(model=model)
    assert kept.count == 1
    left[0] = 100
    assert picking(model=model).spent == 2 * 2
    left[0] = 1
    with pytest.raises(InterruptProcessingException):
        picking("4", model=model)
    left[0] = 100
    after = picking("4", model=model)
    assert after.spent == STEPS - 2 + 1
    assert torch.equal(after.samples, plain(4))


def test_each_picture_of_a_batch_has_its_own_pick(host, models, picking, plain):
    batch = edit_inputs(host, models["vae"], batch=2)
    first = picking(**batch)
    assert (first.samples, first.spent, len(first.previews)) == (None, 2 * 3 * 2, 6)
    half = picking("4, ?", **batch)
    assert (half.samples, half.spent) == (None, 0)
    both = picking("4, 5", **batch)
    assert (both.spent, both.seed, both.report["seeds"]) == (2 * (STEPS - 2 + 1), 4, [4, 5])
    for index, seed in enumerate((4, 5)):
        (one,) = host.call("LatentFromBatch", samples=batch["latent_image"], batch_index=index, length=1)
        alone = {"latent_image": one}
        for name in ("positive", "negative"):
            ((tokens, options),) = batch[name]
            row = {key: v[index : index + 1] if isinstance(v, torch.Tensor) else v for key, v in options.items()}
            alone[name] = [[tokens[index : index + 1], row]]
        assert torch.equal(both.samples[index : index + 1], plain(seed, **alone))
    # One pick for all of them; the first picture has it already.
    assert picking("4", **batch).spent == STEPS - 2 + 1
    with pytest.raises(ValueError, match=r"picked names 3 candidates .* latent_image holds 2 pictures"):
        picking("3, 4, 5", **batch)


def test_a_model_that_reuses_known_tokens(host, models, picking, plain):
    (model,) = host.call(
        "ReuseKnownTokens", model=models["model"], refresh_every=3, first_steps=1, unchanged="masked", skip_steps=0.0
    )
    how = {"model": model, "steps": 10}
    first = picking(probe_steps=3, **how)
    second = picking("4", probe_steps=3, **how)
    assert torch.equal(second.samples, plain(4, **how))
    assert second.report["exact"]
    assert first.spent + second.spent <= 2 * 3 + 10 + 2


def test_a_model_that_changed_since_probing_is_run_afresh(models, picking, plain):
    from comfy.patcher_extension import WrappersMP

    off, model = [0.0], models["model"].clone()
    model.add_wrapper_with_key(
        WrappersMP.APPLY_MODEL, "off", lambda executor, *args, **kwargs: executor(*args, **kwargs) + off[0]
    )
    picking(model=model)
    off[0] = 0.25
    after = picking("4", model=model)
    assert torch.equal(after.samples, plain(4, model=model))
    assert after.report["pictures"][0]["run_afresh"] and after.report["exact"]


@pytest.mark.parametrize("picked", ["#0", "#4", "four", "-1", str(2**64)])
def test_a_pick_that_cannot_be_read(picking, picked):
    with pytest.raises(ValueError, match="picked is"):
        picking(picked)


def test_a_step_cache_is_refused_here_too(models, host, picking):
    (model,) = host.call(
        "EasyCache", model=models["model"], reuse_threshold=0.2, start_percent=0.1, end_percent=0.9, verbose=False
    )
    with pytest.raises(ValueError, match="keeps a state of its own"):
        picking(model=model)
