"""In-Context Inversion on the real host, with a tiny text-to-image FLUX."""

import json

import pytest
import torch
from support.early_filter import counting
from support.inversion import PANEL, STEPS, diptych, pictures
from support.judges import ScriptedJudge, by_seed
from support.tiny_edit import conditioning

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("one_thread")]


def error(samples, source):
    return float((samples - source).norm() / source.norm())


def left_error(samples, latent):
    return error(samples[..., :PANEL], latent["samples"][..., :PANEL])


def test_the_source_is_reproduced(inverted, shows_values):
    """28 steps in float32. The uncorrected error stands beside the corrected one."""
    errors = {}
    for corrections in (0, 2, 8):
        _, _, report = inverted(steps=28, corrections=corrections, check=True)
        (picture,) = report["pictures"]
        errors[corrections] = picture["reconstruction_error"]
        assert 28 <= picture["evaluations"]["inversion"] <= 28 * (1 + corrections)
        assert picture["evaluations"]["check"] == 28
        assert report["held"]["dtype"] == "float32"
    # About 0.5, 0.02 and 0.0003.
    assert errors[8] <= 1e-3
    assert errors[8] < errors[2] / 10 < errors[0] / 50


@pytest.mark.parametrize("denoise", [1.0, 0.6])
def test_without_kept_values_it_is_an_ordinary_run_with_that_noise(inverted, text_to_image, edited, denoise):
    import comfy.sample

    model, latent, report = inverted(step_share=0.0, denoise=denoise)
    assert report["held"] == {
        "steps": 0, "blocks": [], "bytes": 0, "gigabytes": 0.0, "dtype": None, "where": "RAM",
    }  # fmt: skip
    (picture,) = pictures(model)
    noise = comfy.sample.prepare_noise(latent["samples"], 3)
    noise[..., :PANEL] = picture.noise
    plain = comfy.sample.sample(
        text_to_image["model"], noise, STEPS, 1.0, "euler", "simple", conditioning(7), conditioning(9),
        latent["samples"], denoise=denoise, seed=3,
    )  # fmt: skip
    assert torch.equal(edited(model, latent, denoise=denoise), plain)


@pytest.mark.parametrize("denoise", [1.0, 0.6])
def test_sampling_starts_where_the_inversion_ended(host, inverted, text_to_image, edited, denoise):
    """The left half, alone, sampled with the prompt of the inversion, leads back to the source."""
    changes = {"steps": 28, "denoise": denoise}
    model, latent, _ = inverted(step_share=0.0, corrections=20, inversion_guidance=0.0, **changes)
    alone = {"samples": latent["samples"][..., :PANEL]}
    assert error(edited(model, alone, positive=conditioning(1), **changes), alone["samples"]) < 1e-3


@pytest.fixture
def attended(monkeypatch, shows_values):
    """Every block's values of the picture's tokens, `batch heads rows columns d`, call by call."""
    import comfy.ldm.flux.layers

    seen, attention = [], comfy.ldm.flux.layers.attention

    def spy(q, k, v, **kwargs):
        # 8 tokens of text, then 2 rows.
        seen.append(v[:, :, 8:].unflatten(2, (2, -1)).clone())
        return attention(q, k, v, **kwargs)

    monkeypatch.setattr(comfy.ldm.flux.layers, "attention", spy)
    return seen


def test_every_block_sees_the_kept_values_in_the_left_panel_only(inverted, edited, attended):
    model, latent, _ = inverted(step_share=0.5)
    attended.clear()
    edited(model, latent)
    assert len(attended) == STEPS * 2
    values = pictures(model)[0].values
    for step in range(STEPS):
        for block in range(2):
            left, right = attended[2 * step + block][0].chunk(2, dim=2)
            if step < STEPS / 2:
                assert torch.equal(left, values.at(step)[block])
                assert not torch.equal(right, values.at(step)[block])
            else:
                assert values.at(step) is None


def test_kept_values_bring_the_left_panel_nearer_to_the_source(inverted, edited, shows_values):
    """With the inversion's own prompt, where the right panel alone leads the left one away."""
    errors = {}
    for share in (0.0, 1.0):
        model, latent, _ = inverted(steps=28, step_share=share, corrections=8, inversion_guidance=0.0)
        errors[share] = left_error(edited(model, latent, steps=28, positive=conditioning(1)), latent)
    assert errors[1.0] < errors[0.0]


def test_seeds_differ_in_the_right_panel_and_one_seed_does_not(inverted, edited, shows_values):
    model, latent, _ = inverted()
    first, again, other = (edited(model, latent, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    right, left = error(first[..., PANEL:], other[..., PANEL:]), error(first[..., :PANEL], other[..., :PANEL])
    assert right > 5 * left


def test_what_is_held_is_what_was_asked_for(inverted, shows_values):
    model, _, report = inverted(steps=8, step_share=0.5, block_share=0.5)
    # One of two blocks; 2 x 2 tokens of 128 numbers.
    assert report["held"]["blocks"] == ["single 0"]
    assert report["held"]["steps"] == 4
    assert report["held"]["bytes"] == 4 * 1 * 4 * 128 * 4
    values = pictures(model)[0].values
    assert [step for step in range(8) if values.at(step) is not None] == [0, 1, 2, 3]
    assert values.at(0).shape == (1, 1, 2, 2, 128)
    assert values.at(0).device.type == "cpu"


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_it_takes_part_in_the_early_filter(host, inverted, text_to_image, edited, shows_values, cfg):
    counted, count = counting(text_to_image["model"])
    model, latent, report = inverted(model=counted)
    assert count[0] == report["pictures"][0]["evaluations"]["inversion"] == 3 * STEPS
    judge = ScriptedJudge(by_seed(s5=1.0))
    result, _, seed, filtered = host.call(
        "EarlyFilterSampler", model=model, latent_image=latent, seed=3, steps=STEPS, cfg=cfg, sampler_name="euler",
        scheduler="simple", positive=conditioning(7), negative=conditioning(9), denoise=1.0, vae=text_to_image["vae"],
        instruction="", candidates=3, probe_steps=1, keep=1, mode="resume", panel="right half", judge=judge,
    )  # fmt: skip
    assert seed == 5
    assert json.loads(filtered)["evaluations"]["spent"] == 3 + 1 + 3
    # The source was not inverted again; at cfg 3 the host asks for both prompts in one call or in two.
    assert count[0] - 3 * STEPS in ((7,) if cfg == 1 else (7, 14))
    assert torch.equal(result["samples"], edited(model, latent, seed=5, cfg=cfg))
    assert judge.edits[0].panel.shape == (32, 32, 3)


def test_the_paper_scheme_of_the_filter_takes_the_nearest_steps_values(host, inverted, text_to_image, caplog):
    model, latent, _ = inverted(step_share=0.0)
    _, _, seed, _ = host.call(
        "EarlyFilterSampler", model=model, latent_image=latent, seed=3, steps=STEPS, cfg=1.0, sampler_name="euler",
        scheduler="simple", positive=conditioning(7), negative=conditioning(9), denoise=1.0, vae=text_to_image["vae"],
        instruction="", candidates=2, probe_steps=3, keep=1, mode="paper", panel="right half",
        judge=ScriptedJudge(by_seed(s4=1.0)),
    )  # fmt: skip
    assert seed == 4
    assert "steps are not those of the inversion" in caplog.text


def test_in_custom_samplers_place_with_given_sigmas(host, inverted, text_to_image, edited, shows_values):
    (sigmas,) = host.call("BasicScheduler", model=text_to_image["model"], scheduler="beta", steps=STEPS, denoise=1.0)
    model, latent, _ = inverted(sigmas=sigmas)
    (guider,) = host.call("BasicGuider", model=model, conditioning=conditioning(7))
    (method,) = host.call("KSamplerSelect", sampler_name="euler")
    (noise,) = host.call("RandomNoise", noise_seed=3)
    result, _ = host.call(
        "SamplerCustomAdvanced", guider=guider, sampler=method, sigmas=sigmas, latent_image=latent, noise=noise
    )
    by_name, latent, _ = inverted(scheduler="beta")
    assert torch.equal(result["samples"], edited(by_name, latent, scheduler="beta"))


def test_pictures_of_a_batch_are_inverted_as_if_each_were_alone(inverted, edited, attended):
    both = diptych(2)
    tokens, options = torch.cat([conditioning(1)[0][0], conditioning(4)[0][0]]), conditioning(1)[0][1]
    model, latent, report = inverted(diptych=both, source_prompt=[[tokens, options]])
    assert len(report["pictures"]) == 2
    held = pictures(model)
    for index, prompt in enumerate((1, 4)):
        pair = [[tokens[index : index + 1], options]]
        alone, _, _ = inverted(diptych=both[index : index + 1], source_prompt=pair)
        assert torch.equal(held[index].noise, pictures(alone)[0].noise), prompt
    # Wherever a picture comes in a batch, its own values are used, for both prompts.
    attended.clear()
    edited(model, {"samples": latent["samples"].flip(0)}, cfg=3.0)
    for row, values in enumerate(attended[0]):
        assert torch.equal(values[:, :, :2], held[1 - row % 2].values.at(0)[0])


def test_a_mask_keeps_what_it_keeps(inverted, edited, shows_values):
    model, latent, _ = inverted()
    mask = torch.zeros(1, 1, 32, 64)
    mask[..., 40:56] = 1.0
    samples = edited(model, latent | {"noise_mask": mask})
    assert error(samples[..., :PANEL], latent["samples"][..., :PANEL]) < 1e-3
    assert error(samples[..., 5:7], latent["samples"][..., 5:7]) > 0.1


def test_runs_of_one_model_do_not_meet(inverted, text_to_image, edited, shows_values):
    """A run of the source panel alone comes between the start of a diptych's run and its first model call."""
    from comfy.patcher_extension import WrappersMP

    watched, within, found = text_to_image["model"].clone(), [], []

    def nested(executor, *args, **kwargs):
        if within:
            base = watched.model
            patcher = base.current_patcher
            found.append(edited(*within.pop()))
            # The host itself does not expect a run within a run.
            base.current_patcher = patcher
        return executor(*args, **kwargs)

    watched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "nested", nested)
    model, latent, _ = inverted(model=watched)
    alone = {"samples": latent["samples"][..., :PANEL]}
    wanted, wanted_alone = edited(model, latent), edited(model, alone)
    within.append((model, alone))
    assert torch.equal(edited(model, latent), wanted)
    assert torch.equal(found.pop(), wanted_alone)


class TestNothingIsLeftBehind:
    @pytest.fixture
    def untouched(self, text_to_image, edited):
        """Compares the model before and after."""
        latent = {"samples": torch.zeros(1, 16, 4, 8)}
        model = text_to_image["model"]
        state = repr(model.model_options), repr(model.wrappers), repr(model.additional_models)
        before = edited(model, latent)
        yield
        assert (repr(model.model_options), repr(model.wrappers), repr(model.additional_models)) == state
        assert torch.equal(edited(model, latent), before)

    @pytest.mark.usefixtures("untouched")
    def test_after_a_run(self, inverted, edited):
        model, latent, _ = inverted(step_share=0.0, check=True)
        edited(model, latent)

    @pytest.mark.usefixtures("untouched")
    @pytest.mark.parametrize("call", [2, STEPS * 3 + 2])
    def test_after_an_interrupt(self, inverted, text_to_image, call):
        """While inverting and while checking."""
        import comfy.model_management
        from comfy.patcher_extension import WrappersMP

        counted, count = counting(text_to_image["model"])

        def press(executor, *args, **kwargs):
            if count[0] == call:
                comfy.model_management.interrupt_current_processing(True)
            return executor(*args, **kwargs)

        counted.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "press", press)
        options = repr(counted.model_options)
        try:
            with pytest.raises(comfy.model_management.InterruptProcessingException):
                inverted(model=counted, step_share=0.0, check=True)
        finally:
            comfy.model_management.interrupt_current_processing(False)
        assert count[0] <= call + 1
        assert repr(counted.model_options) == options

    @pytest.mark.usefixtures("untouched")
    def test_after_an_error_in_the_model(self, inverted, text_to_image, edited):
        from comfy.patcher_extension import WrappersMP

        def fail(executor, *args, **kwargs):
            raise RuntimeError("CUDA out of memory")

        model, latent, _ = inverted(step_share=0.0)
        for broken, run in ((text_to_image["model"].clone(), inverted), (model.clone(), None)):
            broken.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "fail", fail)
            with pytest.raises(RuntimeError, match="out of memory"):
                run(model=broken) if run else edited(broken, latent)
        edited(model, latent)

    @pytest.mark.usefixtures("untouched")
    def test_a_second_inversion_takes_the_firsts_place(self, inverted, edited, shows_values):
        first, latent, _ = inverted(corrections=0)
        second, _, _ = inverted(model=first)
        assert torch.equal(pictures(second)[0].noise, pictures(inverted()[0])[0].noise)
        assert torch.equal(edited(second, latent), edited(inverted()[0], latent))


def test_one_progress_bar_with_previews_over_inversion_and_check(inverted):
    import comfy.utils
    from comfy.cli_args import LatentPreviewMethod, args

    told = []
    hook, method = comfy.utils.PROGRESS_BAR_HOOK, args.preview_method
    comfy.utils.set_progress_bar_global_hook(lambda *bar, **_: told.append(bar))
    args.preview_method = LatentPreviewMethod.Latent2RGB
    try:
        inverted(diptych=diptych(2), step_share=0.0, check=True)
    finally:
        comfy.utils.set_progress_bar_global_hook(hook)
        args.preview_method = method
    most = 2 * 2 * STEPS
    steps = [(value, total) for value, total, preview in told if preview is not None]
    assert steps == [(step, most) for step in range(1, most + 1)]
