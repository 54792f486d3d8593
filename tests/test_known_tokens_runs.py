"""Reuse Known Tokens over whole sampling runs: what they leave behind, memory, errors, and what others are told."""

import weakref

import pytest
import torch
from support.known_tokens import EXACT, STEPS, off
from support.tiny_edit import conditioning

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("shows_values")]


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


def test_others_are_told_the_cost(models, sampled, reusing):
    from icedit.host.model_cost import COST_KEY

    costs: list[float] = []
    model = reusing()
    model.model_options["transformer_options"][COST_KEY] = costs.append
    sampled(model)
    assert costs == [1.0, 1.0, 0.75, 0.75, 1.0, 0.75]


def test_after_a_replay_the_first_evaluation_is_full(models, sampled, reusing, said):
    """Nothing is kept yet, as the model was not called."""
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
