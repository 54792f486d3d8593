"""Reuse Known Tokens on the real host, with a tiny FLUX.1-Fill: right results, and what a run leaves behind."""

import weakref

import pytest
import torch
from support.hosts import need_shown_values
from support.known_tokens import asks_twice, pairs_off
from support.tiny_edit import conditioning, edit_inputs

pytestmark = pytest.mark.host

STEPS = 6
EXACT = 1e-4
"""Two ways to add up the same float32 numbers differ by less; what the tests change differs by far more."""


@pytest.fixture(scope="module", autouse=True)
def _shown():
    need_shown_values()


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
def twice(host, models, edit):
    """Both answers of each step of a sampler that asks twice: in full, then short."""

    def run(model, **changes):
        given = edit | changes
        guider = host.call("CFGGuider", model=model, positive=given["positive"], negative=given["negative"],
                           cfg=given.get("cfg", 1.0))[0]  # fmt: skip
        (sigmas,) = host.call("BasicScheduler", model=model, scheduler="simple", steps=3, denoise=1.0)
        found: list[torch.Tensor] = []
        (noise,) = host.call("RandomNoise", noise_seed=3)
        host.call(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=asks_twice(found), sigmas=sigmas,
            latent_image=given["latent_image"],
        )  # fmt: skip
        return found

    return run


@pytest.fixture
def said():
    return []


@pytest.fixture
def reusing(models, said):
    """A model that reuses its known tokens, with small defaults; changes by name. What its runs say is in `said`."""
    from icedit.host.known_tokens.model import reuse_known_tokens
    from icedit.known_tokens.control import ReuseSettings, Unchanged

    def node(model=None, **changes):
        if "unchanged" in changes:
            changes["unchanged"] = Unchanged(changes["unchanged"])
        settings = ReuseSettings(**{"refresh_every": 3, "first_steps": 2} | changes)
        return reuse_known_tokens(model or models["model"], settings, said.append)

    return node


def off(samples, plain):
    return float((samples - plain).norm() / plain.norm())


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


def test_another_picture_right_after(host, models, edit, sampled, reusing):
    model = reusing()
    sampled(model)
    samples = edit["latent_image"]["samples"].flip(-1).contiguous()
    other = {"latent_image": edit["latent_image"] | {"samples": samples}, "positive": conditioning(40)}
    assert torch.equal(sampled(model, **other), sampled(reusing(), **other))


@pytest.mark.parametrize("fails", ["error", "interrupt"])
def test_an_error_in_mid_run_leaves_nothing_behind(models, sampled, reusing, said, monkeypatch, fails):
    import comfy.model_management
    from comfy.patcher_extension import WrappersMP
    from icedit.host.known_tokens import run

    made, init = [], run.KnownTokensRun.__init__

    def spy(self, *args):
        init(self, *args)
        made.append(weakref.ref(self))

    monkeypatch.setattr(run.KnownTokensRun, "__init__", spy)
    calls = [0]

    def fail(executor, *args, **kwargs):
        calls[0] += 1
        if calls[0] == 4:
            assert made[0]().store.nbytes > 0
            raise (RuntimeError if fails == "error" else comfy.model_management.InterruptProcessingException)("now")
        return executor(*args, **kwargs)

    plain, model = sampled(reusing()), reusing()
    made.clear()
    failing = model.clone()
    failing.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "fail", fail)
    with pytest.raises((RuntimeError, comfy.model_management.InterruptProcessingException)):
        sampled(failing)
    assert made[0]() is None or made[0]().store.nbytes == 0
    assert len(said) == 1
    options = models["model"].model_options["transformer_options"]
    assert "patches" not in options and WrappersMP.CALC_COND_BATCH not in options.get("wrappers", {})
    assert torch.equal(sampled(model), plain)


def test_no_room_on_the_device(sampled, reusing, said, monkeypatch):
    import comfy.model_management

    plain = sampled(reusing())
    free = comfy.model_management.get_free_memory
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *given: free(*given) if given[1:] else 0)
    assert torch.equal(sampled(reusing()), plain)
    assert "in RAM, as there is no room on the GPU" in said[1]


def test_kept_in_8_bits(sampled, reusing, said):
    plain, reused, small = sampled(), sampled(reusing()), sampled(reusing(in_8_bits=True))
    # A tenth by what is random.
    assert 0 < off(small, reused) < off(reused, plain) / 2


def test_the_host_reserves_room(models, sampled, reusing, monkeypatch):
    import comfy.sampler_helpers

    shapes, prepare = [], comfy.sampler_helpers.estimate_memory

    def estimate(model, noise_shape, conds):
        shapes.append(tuple(noise_shape))
        return prepare(model, noise_shape, conds)

    monkeypatch.setattr(comfy.sampler_helpers, "estimate_memory", estimate)
    sampled()
    sampled(reusing())
    assert shapes[0] == (1, 16, 4, 8)
    assert shapes[1][:3] == (1, 16, 4) and shapes[1][3] > 8


def test_steps_are_left_out_where_they_can_be_foretold(sampled, reusing, said):
    plain = sampled(steps=24)
    results = {share: sampled(reusing(skip_steps=share), steps=24) for share in (0.01, 0.1)}
    left_out = [int(note.split(" left out")[0].rsplit(" ", 1)[1]) for note in said]
    assert 0 < left_out[0] < left_out[1] < 22
    assert off(results[0.01], plain) < off(results[0.1], plain) < 0.2
    # Without known tokens, too.
    assert off(sampled(reusing(skip_steps=0.1, refresh_every=1), steps=24), plain) < 0.2
    assert "0 short ones" in said[2] and " 0 left out" not in said[2]


def test_others_are_told_the_cost_and_ask_for_full_evaluations(models, sampled, reusing, said):
    """The early filter repeats some evaluations, so these must not depend on what was kept."""
    from comfy.patcher_extension import WrappersMP
    from icedit.host.evaluations import COST_KEY, FULL_KEY

    costs: list[float] = []

    def outside(executor, model, conds, x, timestep, options):
        told = {COST_KEY: costs.append, FULL_KEY: len(costs) == 3}
        return executor(
            model, conds, x, timestep, options | {"transformer_options": options["transformer_options"] | told}
        )

    model = models["model"].clone()
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "outside", outside)
    sampled(reusing(model))
    assert costs == [1.0, 1.0, 0.75, 1.0, 0.75, 0.75]


def test_after_a_replay_the_first_evaluation_is_full(models, sampled, reusing, said):
    """What is replayed never reaches the run, so nothing is kept yet."""
    from comfy.patcher_extension import WrappersMP

    tape: list[list[torch.Tensor]] = []
    answers = iter(())

    def replay(executor, *args):
        outputs = next(answers, None)
        if outputs is None:
            outputs = executor(*args)
            tape.append([output.clone() for output in outputs])
        return [output.clone() for output in outputs]

    model = models["model"].clone()
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "replay", replay)
    plain = sampled(reusing(model, first_steps=4), steps=8)
    answers = iter(tape[:4])
    again = sampled(reusing(model, first_steps=4), steps=8)
    assert "8 evaluations" not in said[1] and said[1].startswith("2 evaluations of the model in full, 2 short ones")
    assert off(again, plain) < 0.1


def test_several_gpus(models, sampled, reusing, said):
    """The host runs each device's conditionings in a thread of its own."""
    import comfy.samplers

    if not hasattr(comfy.samplers, "_calc_cond_batch_multigpu"):
        pytest.skip("this ComfyUI runs a model on one device only")
    from comfy.multigpu import MultiGPUThreadPool
    from comfy.patcher_extension import WrappersMP

    expected = sampled(reusing(), cfg=3.0)
    devices = [torch.device("cpu"), torch.device("cpu", 0)]
    pool, loaded = MultiGPUThreadPool(devices), []

    def spread(executor, base, conds, x, timestep, options):
        loaded.append(base.current_patcher)
        several = {"multigpu_clones": dict.fromkeys(devices, base.current_patcher), "multigpu_thread_pool": pool}
        return executor(base, conds, x, timestep, options | several)

    model = models["model"].clone()
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "spread", spread)
    try:
        assert off(sampled(reusing(model), cfg=3.0), expected) < EXACT
    finally:
        pool.shutdown()
    assert len(loaded) == STEPS
    assert said[0] == said[1]


def test_partly_loaded(host, models, sampled, reusing, monkeypatch):
    from support.loading import run_out_of_memory

    expected = sampled(reusing())
    run_out_of_memory(monkeypatch)()
    assert off(sampled(reusing()), expected) < EXACT


def test_what_the_edit_does_not_touch(models, sampled, reusing, said, monkeypatch):
    """Here one token of the right panel is touched, and the other three are left out, too."""
    from comfy.patcher_extension import WrappersMP
    from icedit.known_tokens.unchanged import UnchangedTokens

    found = torch.tensor([[True, True, True, False], [True, True, True, True]])
    monkeypatch.setattr(UnchangedTokens, "known", lambda _: found)
    plain, steps = sampled(steps=9), {"steps": 9}
    reused = sampled(reusing(unchanged="masked and unchanged"), **steps)
    # 8 tokens of text and 1 of 8.
    assert said[0].startswith("5 evaluations of the model in full, 4 short ones with 56% of the tokens")
    assert 0 < off(reused, plain) < 0.2
    # The negative prompt joins later, and was not seen before.
    late = models["model"].clone()

    def without_negative(executor, model, conds, x, timestep, options):
        return executor(model, conds if timestep[0] < 0.8 else [conds[0], None], x, timestep, options)

    late.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "late", without_negative)
    reused = sampled(reusing(late, unchanged="masked and unchanged"), cfg=2.0, **steps)
    assert off(reused, sampled(late, cfg=2.0, **steps)) < 0.2


def test_the_node_says_what_each_run_took(host, models, sampled, monkeypatch):
    """Long after it was executed: while samplers use its model."""
    from types import SimpleNamespace

    import nodes
    from comfy_api.latest import io
    from server import PromptServer

    told = []
    server = SimpleNamespace(send_progress_text=lambda text, node: told.append((node, text)), client_id=None)
    monkeypatch.setattr(PromptServer, "instance", server, raising=False)
    node = nodes.NODE_CLASS_MAPPINGS["ReuseKnownTokens"].PREPARE_CLASS_CLONE(
        {"hidden_inputs": {io.Hidden.unique_id: "7"}}
    )
    settings = {"refresh_every": 3, "first_steps": 2, "unchanged": "masked and unchanged", "precision": "8 bit"}
    with torch.inference_mode():
        (model,) = node.EXECUTE_NORMALIZED(model=models["model"], **settings).result
    assert not told
    for seed in (3, 4):
        sampled(model, seed=seed)
    assert [name for name, _ in told] == ["7", "7"]
    assert all("evaluations of the model in full" in text and "0 left out" in text for _, text in told)


def test_a_model_that_is_no_flux(models, reusing):
    from types import SimpleNamespace

    with pytest.raises(ValueError, match=r"The model is SimpleNamespace, expected a FLUX\.1"):
        reusing(SimpleNamespace(model=SimpleNamespace(diffusion_model=None)))
