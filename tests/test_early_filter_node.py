"""Runs of the sampler nodes on the real host: evaluations, the paper's scheme, batches, interrupts, progress."""

import gc
import json
import weakref
from itertools import accumulate

import pytest
import torch
from support.early_filter import counting
from support.judges import ScriptedJudge, by_seed
from support.tiny_edit import edit_inputs
from torch.profiler import ProfilerActivity, profile

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("one_thread")]

SEEDS = 2**64


@pytest.mark.parametrize(
    ("changes", "calls"),
    [
        # The winner is asked again once for each look.
        ({}, 52 + 2),
        ({"mode": "paper"}, 52),
        ({"mode": "paper", "probe_steps": 10}, 88),
        ({"keep": 1}, 48 + 1),
        ({"keep": 64}, 6 * 8 + 20 + 1),
        ({"denoise": 0.5}, 52 + 2),
        # Heun asks twice in every step but the last; a probe ends between the two.
        ({"sampler_name": "heun"}, 6 * 7 + 2 * 8 + (55 - 15) + 2),
        # Nothing is mixed from two runs.
        ({"probe_steps": 28}, 6 * 28),
    ],
)
def test_the_model_is_called_as_often_as_planned(filtered, models, changes, calls):
    model, count = counting(models["model"])
    settings = {"steps": 28, "candidates": 6, "probe_steps": 4, "keep": 2, "judge": ScriptedJudge(by_seed(s5=1.0))}
    _, _, _, report = filtered(**settings | changes, model=model)
    assert count[0] == calls == report["evaluations"]["spent"]


def test_paper_mode_runs_the_winner_from_its_start(filtered, plain):
    samples, _, seed, report = filtered(mode="paper", probe_steps=2, judge=ScriptedJudge(by_seed(s5=1.0)))
    assert torch.equal(samples, plain(seed=seed))
    assert report["evaluations"]["spent"] == 3 * 2 + 4


def test_paper_mode_judges_the_short_runs_ends(filtered, plain, host, models):
    judge = ScriptedJudge(by_seed(s5=1.0))
    filtered(mode="paper", probe_steps=2, judge=judge)
    short = {"samples": plain(seed=4, steps=2)}
    assert torch.allclose(judge.edits[1].panel, right_panel(short, models["vae"], judge.questions[0].source), atol=1e-3)


def test_paper_mode_of_the_custom_sampler_picks_its_short_schedule_from_the_sigmas(host, models, edit):
    (guider,) = host.call("BasicGuider", model=models["model"], conditioning=edit["positive"])
    (method,) = host.call("KSamplerSelect", sampler_name="euler")
    (sigmas,) = host.call("BasicScheduler", model=models["model"], scheduler="simple", steps=6, denoise=1.0)
    common = {"guider": guider, "sampler": method, "latent_image": edit["latent_image"]}
    judge = ScriptedJudge(by_seed(s4=1.0))
    latent, _, seed, report = host.call(
        "EarlyFilterSamplerAdvanced", **common, sigmas=sigmas, seed=3, vae=models["vae"], instruction="", candidates=2,
        probe_steps=3, keep=1, mode="paper", panel="right half", judge=judge,
    )  # fmt: skip
    (noise,) = host.call("RandomNoise", noise_seed=seed)
    whole, _ = host.call("SamplerCustomAdvanced", noise=noise, sigmas=sigmas, **common)
    short, _ = host.call("SamplerCustomAdvanced", noise=noise, sigmas=sigmas[::2], **common)
    assert torch.equal(latent["samples"], whole["samples"])
    assert json.loads(report)["evaluations"]["spent"] == 2 * 3 + 6
    assert torch.allclose(judge.edits[1].panel, right_panel(short, models["vae"], judge.questions[0].source), atol=1e-3)


def test_each_picture_of_a_batch_gets_its_own_winner_as_if_it_were_alone(host, filtered, plain, models):
    batch = edit_inputs(host, models["vae"], batch=2)
    picked = iter((5, 5, 5, 4, 4, 4))
    judge = ScriptedJudge(lambda entry: by_seed(**{f"s{next(picked)}": 1.0})(entry))
    samples, previews, seed, report = filtered(**batch, judge=judge, cfg=3.0)
    assert report["seeds"] == [5, 4]
    assert seed == 5
    assert previews.shape == (2 * 3, 32, 32, 3)
    for index, winner in enumerate(report["seeds"]):
        (one,) = host.call("LatentFromBatch", samples=batch["latent_image"], batch_index=index, length=1)
        alone = {"latent_image": one}
        for name in ("positive", "negative"):
            ((tokens, options),) = batch[name]
            one = {key: v[index : index + 1] if isinstance(v, torch.Tensor) else v for key, v in options.items()}
            alone[name] = [[tokens[index : index + 1], one]]
        assert torch.equal(samples[index : index + 1], plain(**alone, seed=winner, cfg=3.0))
    assert report["evaluations"]["spent"] == 2 * (3 * 1 + 3 + 1)


def test_a_picture_taken_from_a_batch_keeps_its_noise(host, filtered, plain, models):
    batch = edit_inputs(host, models["vae"], batch=2)["latent_image"]
    (second,) = host.call("LatentFromBatch", samples=batch, batch_index=1, length=1)
    samples, _, seed, _ = filtered(latent_image=second, judge=ScriptedJudge(by_seed(s4=1.0)))
    assert torch.equal(samples, plain(latent_image=second, seed=seed))


def test_a_sampler_that_does_not_repeat_itself_is_not_mixed_from_two_runs(host, models, edit, caplog):
    import comfy.samplers

    calls = []

    def moody(model, x, sigmas, extra_args=None, callback=None, disable=None):
        calls.append(x)
        x = x + 0.1 * len(calls)
        for step in range(len(sigmas) - 1):
            denoised = model(x, sigmas[step] * x.new_ones([len(x)]), **extra_args)
            callback({"x": x, "i": step, "denoised": denoised})
            x = denoised + (x - denoised) * sigmas[step + 1] / sigmas[step]
        return x

    (guider,) = host.call("BasicGuider", model=models["model"], conditioning=edit["positive"])
    (sigmas,) = host.call("BasicScheduler", model=models["model"], scheduler="simple", steps=4, denoise=1.0)
    _, _, _, report = host.call(
        "EarlyFilterSamplerAdvanced", guider=guider, sampler=comfy.samplers.KSAMPLER(moody), sigmas=sigmas,
        latent_image=edit["latent_image"], seed=3, vae=models["vae"], instruction="", candidates=2, probe_steps=2,
        keep=1, mode="resume", panel="right half", judge=ScriptedJudge(by_seed(s4=1.0)),
    )  # fmt: skip
    assert json.loads(report)["evaluations"]["spent"] == 2 * 2 + 4
    assert "does not repeat itself" in caplog.text


class TestInterrupt:
    """The user's interrupt works at once and leaves nothing behind."""

    @pytest.fixture
    def interrupt(self):
        import comfy.model_management

        yield lambda: comfy.model_management.interrupt_current_processing(True)
        comfy.model_management.interrupt_current_processing(False)

    def test_while_sampling(self, filtered, plain, models, interrupt):
        from comfy.model_management import InterruptProcessingException
        from comfy.patcher_extension import WrappersMP

        before = plain(seed=3)
        model, count = counting(models["model"])

        def press(executor, *args, **kwargs):
            if count[0] == 5:
                interrupt()
            return executor(*args, **kwargs)

        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "press", press)
        options = repr(model.model_options)
        with pytest.raises(InterruptProcessingException):
            filtered(model=model, probe_steps=2)
        assert count[0] == 5
        assert repr(model.model_options) == options
        assert torch.equal(plain(seed=3), before)

    def test_while_judging(self, filtered, models, interrupt):
        from comfy.model_management import InterruptProcessingException

        held = []

        def press(entry):
            held.append(weakref.ref(entry))
            interrupt()
            raise TimeoutError("the judge was busy")

        model, count = counting(models["model"])
        # The judge's own failure does not hide the interrupt: the next question is never asked.
        judge = ScriptedJudge(press)
        with pytest.raises(InterruptProcessingException):
            filtered(model=model, judge=judge)
        assert count[0] == 3
        judge.edits.clear()
        gc.collect()
        assert held[0]() is None


def test_one_progress_bar_with_previews_over_all_steps(filtered, models):
    import comfy.utils
    from comfy.cli_args import LatentPreviewMethod, args

    told = []
    hook, method = comfy.utils.PROGRESS_BAR_HOOK, args.preview_method
    comfy.utils.set_progress_bar_global_hook(lambda *bar, **_: told.append(bar))
    args.preview_method = LatentPreviewMethod.Latent2RGB
    try:
        filtered(steps=8, candidates=4, probe_steps=2, keep=2, judge=ScriptedJudge(by_seed(s4=1.0, s5=0.5)))
    finally:
        comfy.utils.set_progress_bar_global_hook(hook)
        args.preview_method = method
    most = 4 * 2 + 2 * 2 + 4
    steps = [(value, total) for value, total, preview in told if preview is not None]
    assert steps == [(step, most) for step in range(1, most + 1)]


def test_the_previews_are_an_output_and_shown_on_the_node_with_their_captions(host, models, edit):
    import folder_paths
    import nodes
    from PIL import Image

    inputs = {
        **models, **edit, "seed": SEEDS - 1, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
        "denoise": 1.0, "instruction": "", "candidates": 2, "probe_steps": 1, "keep": 1, "mode": "resume",
        "panel": "right half", "judge": (judge := ScriptedJudge(by_seed(s0=1.0))),
    }  # fmt: skip
    with torch.inference_mode():
        output = nodes.NODE_CLASS_MAPPINGS["EarlyFilterSampler"].EXECUTE_NORMALIZED(**inputs)
    _, previews, seed, _ = output.result
    assert seed == 0
    judged = {entry.seed: entry.panel for entry in judge.edits}
    assert torch.equal(previews, torch.stack([judged[0], judged[SEEDS - 1]]))
    assert [candidate["seed"] for candidate in output.ui["icedit_candidates"]] == ["0", str(SEEDS - 1)]
    assert all(isinstance(candidate["score"], float) for candidate in output.ui["icedit_candidates"])
    assert len(output.ui["images"]) == 2
    for shown, preview in zip(output.ui["images"], previews, strict=True):
        assert shown["type"] == "temp"
        with Image.open(f"{folder_paths.get_temp_directory()}/{shown['subfolder']}/{shown['filename']}") as file:
            assert file.height > file.width > preview.shape[1]


def test_twelve_large_previews_take_less_than_100_mb(host):
    """Decoded, kept, and judged one after the other; what the VAE itself works with is not counted."""
    from icedit.host.early_filter.panels import Panels
    from icedit.host.sampling import LatentRow

    class Decoder:
        def decode(self, latents):
            return torch.rand(len(latents), 768, 1024, 3)

    panels = Panels(Decoder(), "right half", [LatentRow(torch.zeros(1, 16, 96, 128), None, None, 0, 1)])
    candidates = {seed: [torch.ones(1, 16, 96, 128)] for seed in range(12)}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for entry in panels.previews(candidates):
            assert entry.panel.shape == entry.left.shape == (768, 512, 3)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = list(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
    assert 12 * 768 * 1024 * 3 * 2 < max(held) < 100e6


@torch.inference_mode()
def right_panel(latent, vae, source):
    """As previews show it beside the source, which the mask keeps."""
    from icedit.host.right_panel import QUICK, DiptychLatent, decode_right

    return decode_right(DiptychLatent(latent["samples"], vae, source[None], QUICK))[0]
