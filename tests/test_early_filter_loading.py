"""The model is loaded in another way after the judge: the host then computes a LoRA with other rounding."""

import json
from types import SimpleNamespace

import pytest
import torch
from support.judges import ScriptedJudge, by_seed
from support.loading import run_out_of_memory
from support.tiny_edit import early_filter, edit_inputs, ksampler

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("one_thread")]

STEPS = 6
ADAPTERS = ["LoRA", "MoE-LoRA"]
DTYPES = ["bf16", "fp8"]


@pytest.fixture
def model(host, request):
    """The tiny model in a dtype with an adapter; loaded anew, so that no test sees another one's weights."""
    import comfy.sd
    import folder_paths

    dtype, adapter = request.param
    if dtype == "fp8":
        base = host.load_model("fp8_e4m3fn")
    else:
        path = folder_paths.get_full_path_or_raise("diffusion_models", "flux1-fill-dev.safetensors")
        with torch.inference_mode():
            base = comfy.sd.load_diffusion_model(path, {"dtype": torch.bfloat16})
    if adapter == "LoRA":
        name = "icedit_normal_lora.safetensors"
        return host.call("LoraLoaderModelOnly", model=base, lora_name=name, strength_model=1.0)[0]
    if adapter == "MoE-LoRA":
        return host.call("MoELoRALoader", model=base, lora_name="icedit_moe_lora.safetensors", strength=1.0)[0]
    return base


@pytest.fixture
def run_out(monkeypatch):
    import comfy.model_management

    yield run_out_of_memory(monkeypatch)
    monkeypatch.undo()
    comfy.model_management.unload_all_models()


@pytest.fixture
def filtered(host, vae, edit):
    """Runs EarlyFilterSampler with two looks; `after_look` is called with the look's number when it is judged."""

    def run(model, after_look=lambda _: None, **changes):
        looks = []

        def verdict(entry):
            if not looks or entry.seed <= looks[-1]:
                after_look(len([seed for seed in looks if seed == entry.seed]) + 1)
            looks.append(entry.seed)
            return by_seed(s4=1.0, s5=0.5)(entry)

        inputs = {"steps": STEPS, "probe_steps": 2, "keep": 2, "judge": ScriptedJudge(verdict)}
        samples, _, seed, report = early_filter(host, vae=vae, **edit | inputs | changes, model=model)
        assert seed == 4
        return samples, report

    return run


@pytest.fixture
def plain(host, edit):
    def run(model, **changes):
        return ksampler(host, model=model, **edit | {"steps": STEPS, "seed": 4} | changes)

    return run


def every(dtypes, adapters):
    cases = [(dtype, adapter) for dtype in dtypes for adapter in adapters]
    return pytest.mark.parametrize("model", cases, indirect=True, ids="-".join)


def spent(report):
    return report["evaluations"]["spent"], report["evaluations"]["checks"]


PROBED = 3 * 2 + 2 * 2


@every(DTYPES, [*ADAPTERS, "none"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_a_model_that_stays_as_it_was_raises_no_alarm(filtered, plain, model, cfg):
    samples, report = filtered(model, cfg=cfg)
    assert torch.equal(samples, plain(model, cfg=cfg))
    assert report["exact"]
    assert not report["pictures"][0]["model_changed"]
    assert spent(report) == (PROBED + 2 + 2, 2)


@every(DTYPES, ADAPTERS)
@pytest.mark.parametrize("look", [1, 2])
def test_the_winner_is_run_afresh_and_is_what_ksampler_gives(filtered, plain, model, run_out, look, caplog):
    with caplog.at_level("INFO"):
        samples, report = filtered(model, lambda number: number == look and run_out())
    assert model.model.model_lowvram
    assert torch.equal(samples, plain(model))
    (picture,) = report["pictures"]
    assert (report["exact"], picture["model_changed"], picture["run_afresh"]) == (True, True, True)
    # The first part that was recorded shows it.
    assert spent(report) == (PROBED + 1 + STEPS, 1)
    assert report["evaluations"]["no_filter"] == STEPS
    assert "did not answer as it had before judging (seed 4)" in caplog.text
    assert "run afresh from its first step" in caplog.text


@every(DTYPES, ADAPTERS)
def test_the_winner_is_resumed_where_users_want_that_and_they_are_told(filtered, plain, model, run_out, caplog):
    with caplog.at_level("INFO"):
        samples, report = filtered(model, lambda number: number == 1 and run_out(), when_changed="resume")
    off = (samples - plain(model)).abs().max()
    assert 0 < off < 0.5 * samples.abs().max()
    (picture,) = report["pictures"]
    assert (report["exact"], picture["model_changed"], picture["run_afresh"]) == (False, True, False)
    assert spent(report) == (PROBED + 2 + 2, 2)
    assert "Set when_changed to 'run afresh'" in caplog.text


@every(["fp8"], ADAPTERS)
def test_a_look_in_between_that_was_sampled_otherwise_is_noticed(filtered, plain, model, run_out, monkeypatch):
    """The model is loaded fully, then partly, then fully again: its first part alone would look right."""
    import comfy.model_management

    def back():
        monkeypatch.undo()
        comfy.model_management.unload_all_models()

    samples, report = filtered(model, lambda number: run_out() if number == 1 else back())
    assert torch.equal(samples, plain(model))
    assert report["pictures"][0]["run_afresh"]
    assert spent(report) == (PROBED + 2 + STEPS, 2)


@every(["bf16", "fp8"], ["none"])
def test_without_a_lora_another_way_of_loading_changes_nothing(filtered, plain, model, run_out):
    samples, report = filtered(model, lambda number: number == 1 and run_out())
    assert model.model.model_lowvram
    assert torch.equal(samples, plain(model))
    assert not report["pictures"][0]["model_changed"]


@every(["fp8"], ["LoRA"])
def test_a_whole_run_that_was_judged_stays_the_one_that_was_judged(filtered, plain, model, run_out):
    before = plain(model)
    samples, report = filtered(model, lambda _: run_out(), probe_steps=STEPS)
    assert torch.equal(samples, before)
    assert report["exact"]
    assert spent(report) == (3 * STEPS, 0)


@every(["fp8"], ["LoRA"])
def test_a_sampler_that_asks_for_more_after_its_last_step_is_checked(host, vae, edit, model, run_out):
    """Heun, where the last sigma is not 0."""
    (guider,) = host.call("BasicGuider", model=model, conditioning=edit["positive"])
    (method,) = host.call("KSamplerSelect", sampler_name="heun")
    common = {
        "guider": guider, "sampler": method, "sigmas": torch.tensor([1.0, 0.6, 0.3]),
        "latent_image": edit["latent_image"],
    }  # fmt: skip
    judge = ScriptedJudge(lambda entry: run_out() or by_seed(s4=1.0)(entry))
    latent, _, seed, report = host.call(
        "EarlyFilterSamplerAdvanced", **common, seed=3, vae=vae, instruction="", candidates=2, probe_steps=2, keep=1,
        mode="resume", panel="right half", judge=judge,
    )  # fmt: skip
    (noise,) = host.call("RandomNoise", noise_seed=seed)
    plain, _ = host.call("SamplerCustomAdvanced", noise=noise, **common)
    assert torch.equal(latent["samples"], plain["samples"])
    assert spent(json.loads(report)) == (2 * 3 + 1 + 4, 1)


@every(["fp8"], ["LoRA"])
def test_mode_paper_needs_no_check(filtered, plain, model, run_out):
    samples, report = filtered(model, lambda _: run_out(), mode="paper")
    assert torch.equal(samples, plain(model))
    assert spent(report) == (3 * 2 + STEPS, 0)


@every(["fp8"], ["LoRA"])
def test_the_progress_bar_makes_room_for_the_second_run(filtered, model, run_out):
    import comfy.utils

    told = []
    hook = comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(lambda *bar, **_: told.append(bar))
    try:
        filtered(model, lambda number: number == 1 and run_out())
    finally:
        comfy.utils.set_progress_bar_global_hook(hook)
    last = max(value for value, *_ in told)
    assert told[-1][:2] == (last, last)
    assert last == PROBED + STEPS


@every(["fp8"], ["LoRA"])
def test_each_tile_of_a_picture_is_what_ksampler_gives(host, vae, filtered, plain, model, run_out):
    batch = edit_inputs(host, vae, batch=2)
    batch["latent_image"] |= {"batch_index": [0, 0], "icedit_tiles": 2}
    samples, report = filtered(model, lambda number: number == 1 and run_out(), **batch)
    assert spent(report) == (2 * (PROBED + 1 + STEPS), 2)
    for index in range(2):
        (one,) = host.call("LatentFromBatch", samples=batch["latent_image"], batch_index=index, length=1)
        conds = {}
        for name in ("positive", "negative"):
            ((tokens, options),) = batch[name]
            row = {key: v[index : index + 1] if isinstance(v, torch.Tensor) else v for key, v in options.items()}
            conds[name] = [[tokens[index : index + 1], row]]
        assert torch.equal(samples[index : index + 1], plain(model, latent_image=one, **conds))


@every(["fp8"], ["LoRA"])
def test_the_node_says_it(host, vae, edit, model, run_out, monkeypatch):
    import nodes
    from comfy_api.latest import io
    from server import PromptServer

    said = []
    server = SimpleNamespace(send_progress_text=lambda text, node: said.append((node, text)), client_id=None)
    monkeypatch.setattr(PromptServer, "instance", server, raising=False)
    node = nodes.NODE_CLASS_MAPPINGS["EarlyFilterSampler"].PREPARE_CLASS_CLONE(
        {"hidden_inputs": {io.Hidden.unique_id: "7"}}
    )
    judge = ScriptedJudge(lambda entry: run_out() or by_seed(s4=1.0)(entry))
    with torch.inference_mode():
        node.EXECUTE_NORMALIZED(
            model=model, seed=3, steps=4, cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0, **edit,
            vae=vae, instruction="", candidates=2, probe_steps=2, keep=1, mode="resume", panel="right half",
            judge=judge,
        )  # fmt: skip
    ((told, text),) = said
    assert told == "7"
    assert text.startswith("The model did not answer as it had before judging (seed 4)")
