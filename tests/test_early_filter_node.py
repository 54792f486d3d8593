"""What the sampler nodes do on the real host besides giving KSampler's bits."""

import gc
import json
import math
import weakref
from itertools import accumulate
from types import SimpleNamespace

import pytest
import torch
from support.early_filter import counting
from support.judges import ScriptedJudge, by_seed
from support.tiny_edit import conditioning, edit_inputs, sources
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
    (picture,) = host.call("VAEDecode", vae=models["vae"], samples={"samples": plain(seed=4, steps=2)})
    assert torch.allclose(judge.edits[1].panel, picture[0, :, 32:], atol=1e-3)


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
    (picture,) = host.call("VAEDecode", vae=models["vae"], samples=short)
    assert torch.allclose(judge.edits[1].panel, picture[0, :, 32:], atol=1e-3)


def test_without_a_judge_the_pixel_judge_chooses(filtered):
    _, _, _, report = filtered()
    assert report["pictures"][0]["looks"][0]["judge"] == "pixels"


def test_a_failing_judge_does_not_lose_the_run(filtered, plain, caplog):
    def fail(*_):
        raise TimeoutError("no answer within 60 s")

    samples, _, seed, report = filtered(judge=ScriptedJudge(fail))
    assert torch.equal(samples, plain(seed=seed))
    assert "no answer within 60 s" in report["pictures"][0]["failures"][0]["error"]
    assert report["pictures"][0]["looks"][0]["judge"] == "pixels"
    assert "no answer within 60 s" in caplog.text


def test_the_node_says_that_the_judge_failed_and_who_chose(host, models, edit, monkeypatch):
    import nodes
    from comfy_api.latest import io
    from server import PromptServer

    def fail(*_):
        raise TimeoutError("no answer within 60 s")

    said = []
    server = SimpleNamespace(send_progress_text=lambda text, node: said.append((node, text)), client_id=None)
    monkeypatch.setattr(PromptServer, "instance", server, raising=False)
    (guider,) = host.call("BasicGuider", model=models["model"], conditioning=edit["positive"])
    (method,) = host.call("KSamplerSelect", sampler_name="euler")
    (sigmas,) = host.call("BasicScheduler", model=models["model"], scheduler="simple", steps=2, denoise=1.0)
    common = {
        "seed": 3, "vae": models["vae"], "latent_image": edit["latent_image"], "instruction": "make it red",
        "candidates": 2, "probe_steps": 1, "keep": 1, "mode": "resume", "panel": "right half",
        "judge": ScriptedJudge(fail),
    }  # fmt: skip
    by_name = {
        "model": models["model"], "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
        "denoise": 1.0, "positive": edit["positive"], "negative": edit["negative"],
    }  # fmt: skip
    by_parts = {"guider": guider, "sampler": method, "sigmas": sigmas}
    for node, inputs in (("EarlyFilterSampler", by_name), ("EarlyFilterSamplerAdvanced", by_parts)):
        prepared = nodes.NODE_CLASS_MAPPINGS[node].PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: node}})
        with torch.inference_mode():
            prepared.EXECUTE_NORMALIZED(**common, **inputs)
        ((told, text),) = said
        assert told == node
        assert "The judge scripted could not answer: TimeoutError: no answer within 60 s" in text
        assert "So the judge pixels chose" in text
        said.clear()


@pytest.mark.parametrize("instruction", ["", " \n"])
def test_a_judge_that_reads_the_instruction_needs_one(filtered, models, instruction):
    model, count = counting(models["model"])
    judge = ScriptedJudge(by_seed(s4=1.0), reads_instruction=True)
    with pytest.raises(ValueError, match=r"instruction is empty.*Connect the output instruction of Edit Instruction"):
        filtered(model=model, judge=judge, instruction=instruction)
    assert count[0] == 0
    # The pixel judge does not.
    filtered(model=model, instruction=instruction)


def test_judges_see_source_region_and_both_panels(filtered, models, host, edit):
    judge = ScriptedJudge(by_seed(s4=1.0))
    filtered(judge=judge)
    (question,), edits = judge.questions, judge.edits
    (source,) = host.call("VAEDecode", vae=models["vae"], samples={"samples": edit["latent_image"]["samples"]})
    assert torch.equal(question.source, source[0, :, :32])
    assert question.instruction == "make it red"
    assert question.region is None
    assert [entry.seed for entry in edits] == [3, 4, 5]
    # The mask keeps the left panel, but for what the VAE carries over from the right one.
    assert float((edits[0].left - question.source).abs().mean()) < 0.05
    assert float((edits[0].panel - question.source).abs().mean()) > 0.1
    assert edits[0].panel.shape == (32, 32, 3)


def test_a_mask_on_part_of_the_right_panel_is_the_region(filtered, edit):
    mask = torch.zeros(1, 1, 32, 64)
    mask[..., 8:24, 40:56] = 1.0
    judge = ScriptedJudge(by_seed(s4=1.0))
    filtered(judge=judge, latent_image=edit["latent_image"] | {"noise_mask": mask})
    assert torch.equal(judge.questions[0].region, mask[0, 0, :, 32:])


def test_a_given_source_is_fitted_to_the_panel(filtered):
    judge = ScriptedJudge(by_seed(s4=1.0))
    large = sources()[0].repeat_interleave(4, 0).repeat_interleave(4, 1)[None]
    filtered(judge=judge, source=large)
    assert torch.allclose(judge.questions[0].source, sources()[0], atol=1e-6)


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


def in_tiles(latent, noise_rows):
    """A latent as Diptych Conditioning makes it for fit tiles."""
    return latent | {"batch_index": noise_rows, "icedit_tiles": len(noise_rows) // len(set(noise_rows))}


@pytest.mark.parametrize("mode", ["resume", "paper"])
def test_the_tiles_of_a_picture_get_one_winner(host, filtered, plain, models, mode):
    """Each tile as KSampler makes it alone with that seed."""
    batch = edit_inputs(host, models["vae"], batch=4)
    batch["latent_image"] = in_tiles(batch["latent_image"], [0, 0, 1, 1])
    picked = iter((5, 5, 5, 4, 4, 4))
    judge = ScriptedJudge(lambda entry: by_seed(**{f"s{next(picked)}": 1.0})(entry))
    model, count = counting(models["model"])
    samples, previews, seed, report = filtered(**batch, model=model, judge=judge, mode=mode)
    assert (seed, report["seeds"], previews.shape) == (5, [5, 4], (2 * 3, 32, 64, 3))
    for index, winner in enumerate((5, 5, 4, 4)):
        latent, noise_row = batch["latent_image"], batch["latent_image"]["batch_index"][index]
        one = {
            "samples": latent["samples"][index : index + 1],
            "noise_mask": latent["noise_mask"][index : index + 1],
            "batch_index": [noise_row],
        }
        conds = {}
        for name in ("positive", "negative"):
            ((tokens, options),) = batch[name]
            row = {key: v[index : index + 1] if isinstance(v, torch.Tensor) else v for key, v in options.items()}
            conds[name] = [[tokens[index : index + 1], row]]
        assert torch.equal(samples[index : index + 1], plain(latent_image=one, **conds, seed=winner))
    assert report["evaluations"]["spent"] == count[0] == 4 * (3 * 1 + (3 + 1 if mode == "resume" else 4))
    assert report["evaluations"]["no_filter"] == 4 * 4
    (source,) = host.call("VAEDecode", vae=models["vae"], samples={"samples": batch["latent_image"]["samples"]})
    first = judge.questions[0]
    assert torch.allclose(first.source, torch.cat([source[0, :, :32], source[1, :, :32]], dim=1), atol=1e-6)
    assert judge.edits[0].panel.shape == judge.edits[0].left.shape == (32, 64, 3)


def test_a_region_on_one_tile_is_that_part_of_the_picture(host, filtered, models):
    batch = edit_inputs(host, models["vae"], batch=2)
    mask = torch.zeros(2, 1, 32, 64)
    mask[1, 0, 8:24, 40:56] = 1.0
    judge = ScriptedJudge(by_seed(s4=1.0))
    latent = in_tiles(batch["latent_image"] | {"noise_mask": mask}, [0, 0])
    filtered(**batch | {"latent_image": latent}, judge=judge)
    assert torch.equal(judge.questions[0].region, torch.cat([mask[0, 0, :, 32:], mask[1, 0, :, 32:]], dim=1))


def test_tiles_of_the_real_nodes_are_one_picture(host, filtered, models):
    diptych, mask, _, layout = host.call(
        "DiptychCreate", image="None", image_input=torch.rand(1, 32, 96, 3), panel_width=64, fit="tiles"
    )
    conds = {"In_context": conditioning(10), "negative": conditioning(20)}
    positive, negative, latent = host.call(
        "ICEFConditioning", **conds, vae=models["vae"], diptych=diptych, maskDiptych=mask, layout=layout
    )
    assert len(diptych) > 2
    common = {"positive": positive, "negative": negative, "steps": 2}
    _, previews, _, report = filtered(latent_image=latent, **common)
    assert (len(previews), len(report["seeds"])) == (3, 1)
    # A tile alone, and pictures that merely start from the same noise, are pictures of their own.
    (one,) = host.call("LatentFromBatch", samples=latent, batch_index=1, length=1)
    assert len(filtered(latent_image=one, **common)[3]["seeds"]) == 1
    del latent["icedit_tiles"]
    assert len(filtered(latent_image=latent, **common)[3]["seeds"]) == len(diptych)
    # The samplers' own layout says it without the latent's key.
    assert len(filtered(latent_image=latent, layout=layout, **common)[3]["seeds"]) == 1
    assert len(filtered(latent_image=one, layout=layout, **common)[3]["seeds"]) == 1


def test_a_layout_at_the_sampler_decides_over_what_the_latent_says(host, filtered, models):
    def layout_of(image, **fit):
        return host.call("DiptychCreate", image="None", image_input=image, panel_width=64, **fit)[3]

    batch = edit_inputs(host, models["vae"], batch=4)
    latent = in_tiles(batch["latent_image"], [0, 0, 0, 0])
    tiles, whole = layout_of(torch.rand(1, 32, 96, 3), fit="tiles"), layout_of(torch.rand(4, 32, 32, 3))
    common = batch | {"steps": 2, "latent_image": latent}
    assert len(filtered(**common)[3]["seeds"]) == 1
    assert len(filtered(**common, layout=whole)[3]["seeds"]) == 4
    common["latent_image"] = in_tiles(latent, [0, 0, 1, 1])
    assert len(filtered(**common)[3]["seeds"]) == 2
    assert len(filtered(**common, layout=tiles)[3]["seeds"]) == 1


def test_tiles_that_cannot_be_told_apart_or_have_other_sources_are_refused(host, filtered, models):
    batch = edit_inputs(host, models["vae"], batch=4)
    latent = in_tiles(batch["latent_image"], [0, 0, 1, 1])
    model, count = counting(models["model"])
    with pytest.raises(ValueError, match="source holds 1 pictures, and latent_image 4 tiles"):
        filtered(**batch | {"latent_image": latent}, model=model, source=sources())
    with pytest.raises(ValueError, match="latent_image holds 4 tiles of pictures that have 3 each"):
        filtered(**batch | {"latent_image": latent | {"icedit_tiles": 3}}, model=model)
    assert count[0] == 0


def test_a_picture_taken_from_a_batch_keeps_its_noise(host, filtered, plain, models):
    batch = edit_inputs(host, models["vae"], batch=2)["latent_image"]
    (second,) = host.call("LatentFromBatch", samples=batch, batch_index=1, length=1)
    samples, _, seed, _ = filtered(latent_image=second, judge=ScriptedJudge(by_seed(s4=1.0)))
    assert torch.equal(samples, plain(latent_image=second, seed=seed))


def test_whole_pictures_of_an_edit_model(host, models, tmp_path):
    import folder_paths
    from safetensors.torch import save_file
    from support.tiny_stack import FluxShape, flux

    # FLUX.1 Kontext is a text-to-image FLUX that gets the picture as a reference latent.
    save_file(flux(FluxShape(in_features=64)), tmp_path / "tiny-kontext.safetensors")
    folder_paths.add_model_folder_path("diffusion_models", str(tmp_path))
    model, picture = host.load_model(name="tiny-kontext.safetensors"), sources()
    (latent,) = host.call("VAEEncode", pixels=picture, vae=models["vae"])
    (positive,) = host.call("ReferenceLatent", conditioning=conditioning(10), latent=latent)
    common = {
        "model": model, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "positive": positive,
        "negative": conditioning(20), "latent_image": latent, "denoise": 1.0,
    }  # fmt: skip
    filtered = {
        "vae": models["vae"], "instruction": "make it red", "candidates": 2, "probe_steps": 1, "keep": 1,
        "mode": "resume", "panel": "whole picture", "judge": (judge := ScriptedJudge(by_seed(s4=1.0))),
    }  # fmt: skip
    result, _, seed, _ = host.call("EarlyFilterSampler", **common, seed=3, **filtered, source=picture)
    assert torch.equal(result["samples"], host.call("KSampler", **common, seed=seed)[0]["samples"])
    assert torch.equal(judge.questions[0].source, picture[0])
    assert judge.edits[0].left is None
    assert judge.edits[0].panel.shape == (32, 32, 3)
    with pytest.raises(ValueError, match="connect that picture to source"):
        host.call("EarlyFilterSampler", **common, seed=3, **filtered)


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
    from icedit.early_filter.stored_preview import STORED, Preview
    from icedit.host.early_filter import previews

    class Decoder:
        def decode(self, latents):
            return torch.rand(len(latents), 768, 1024, 3)

    latents = [torch.zeros(1, 16, 96, 128) for _ in range(12)]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        pictures = previews.decode(Decoder(), latents, STORED)
        edits = [Preview(seed, picture, "right half") for seed, picture in enumerate(pictures)]
        del pictures
        for entry in edits:
            assert entry.panel.shape == (768, 512, 3)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = list(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
    assert 12 * 768 * 1024 * 3 * 2 < max(held) < 100e6
