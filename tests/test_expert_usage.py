"""Watching experts while the host samples, and files without experts, in the real host."""

import json
from contextlib import ExitStack

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support import golden, moe
from support.tiny_stack import moe_lora

pytestmark = pytest.mark.host

SETTINGS = {"seed": 3, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
STEPS, HEIGHT, WIDTH, WORDS = 3, 2, 4, 8
"""The tiny edit in tokens."""


@pytest.fixture(scope="module")
def tensors():
    return moe_lora()


@pytest.fixture(scope="module")
def base(host):
    return host.load_model()


@pytest.fixture(scope="module")
def file(loras, tensors):
    return loras.save(tensors)


@pytest.fixture(scope="module")
def model(loras, base, file):
    return loras.load(base, file)


def watched(host, model, edit, **changes):
    picture, report, usage, latent = host.call("ExpertUsage", model=model, **SETTINGS | edit | changes)
    return picture, report, usage, latent["samples"]


def sampled(host, model, edit, **changes):
    return host.call("KSampler", model=model, **SETTINGS | edit | changes)[0]["samples"]


@pytest.fixture(scope="module")
def run(host, model, edit, vae):
    return watched(host, model, edit, vae=vae)


def nothing_left(model):
    return "icedit_routing_observer" not in model.model_options["transformer_options"] and all(
        "forward" not in module.__dict__ for module in model.model.diffusion_model.modules()
    )


def test_the_edit_is_ksamplers_and_nothing_is_left(host, model, edit, run):
    assert run[3].equal(sampled(host, model, edit))
    assert nothing_left(model)


def test_every_token_is_counted_for_the_expert_that_its_router_chose(host, model, edit, tensors, run):
    """Against the inputs of the routed Linears, as hooks see them in a run of KSampler's."""
    (adapter,) = run[2].adapters
    assert [layer.path for layer in adapter.layers] == ["double_blocks.0.img_mlp.2", "single_blocks.0.linear2"]
    seen = {layer.path: [] for layer in adapter.layers}
    with ExitStack() as hooks:
        for path, inputs in seen.items():
            linear = model.model.diffusion_model.get_submodule(path)
            keep = lambda _, args, inputs=inputs: inputs.append(args[0].clone())  # noqa: E731
            hooks.enter_context(linear.register_forward_pre_hook(keep))
        sampled(host, model, edit)
    names = ("transformer_blocks.0.ff.net.2", "single_transformer_blocks.0.proj_out")
    for layer, name in zip(adapter.layers, names, strict=True):
        _, _, router = moe.experts_of(tensors, name)
        x = torch.cat(seen[layer.path]).double()
        chosen = torch.nn.functional.one_hot((x @ router.T).argmax(-1), 4)
        words, tokens = chosen[:, : -HEIGHT * WIDTH], chosen[:, -HEIGHT * WIDTH :].view(STEPS, HEIGHT, WIDTH, 4)
        assert words.shape[1] in (0, WORDS)
        places = (tokens[:, :, :2].sum((1, 2)), tokens[:, :, 2:].sum((1, 2)), words.sum(1))
        assert layer.counts.equal(torch.stack(places, 1).float())
        assert layer.positions.equal(tokens.sum(0).float())


def test_only_the_positive_half_of_a_guided_call_counts(host, model, edit, run):
    _, _, usage, latent = watched(host, model, edit, cfg=3.0)
    assert latent.equal(sampled(host, model, edit, cfg=3.0))
    for guided, alone in zip(usage.adapters[0].layers, run[2].adapters[0].layers, strict=True):
        assert guided.counts.sum() == alone.counts.sum()
        # Later steps start from other latents.
        assert guided.counts[0].equal(alone.counts[0])


def test_a_sampler_with_more_evaluations_than_steps(host, model, edit):
    (adapter,) = watched(host, model, edit, sampler_name="heun")[2].adapters
    image = adapter.layers[0].counts.sum((1, 2))
    assert image.sum() == (2 * STEPS - 1) * HEIGHT * WIDTH
    assert bool((image > 0).all())


def test_chained_adapters_are_told_apart(host, loras, model, edit):
    other = loras.load(model, moe_lora(experts=3, seed=5), top_k=2)
    _, report, usage, latent = watched(host, other, edit)
    assert latent.equal(sampled(host, other, edit))
    assert [adapter.top_k for adapter in usage.adapters] == [1, 2]
    assert [adapter.layers[0].experts for adapter in usage.adapters] == [4, 3]
    assert usage.adapters[0].identity != usage.adapters[1].identity
    assert "MoE-LoRA 2 of 2: 2 routed layers, 3 experts, top_k 2" in report
    assert nothing_left(other)


def test_a_compiled_model_is_watched_too(host, model, edit, run):
    torch._dynamo.reset()
    (compiled,) = host.call("TorchCompileModel", model=model, backend="eager")
    _, _, usage, latent = watched(host, compiled, edit)
    assert golden.difference(latent, run[3]) < 1e-5
    for found, wanted in zip(usage.adapters[0].layers, run[2].adapters[0].layers, strict=True):
        assert found.counts.equal(wanted.counts)
    assert nothing_left(compiled)


def test_an_error_in_the_middle_leaves_nothing_behind(host, loras, model, edit, monkeypatch):
    before = sampled(host, model, edit)

    def fail(*_):
        raise RuntimeError("in the middle")

    with monkeypatch.context() as failing:
        failing.setattr(loras.host.module("training.usage").LayerTally, "add", fail)
        with pytest.raises(RuntimeError, match="in the middle"):
            watched(host, model, edit)
    assert nothing_left(model)
    assert sampled(host, model, edit).equal(before)


def test_a_model_without_experts_is_refused_before_it_runs(host, loras, base, edit, file):
    for plain in (base, loras.load(base, file, expert_strength=0.0)):
        with pytest.raises(ValueError, match="no MoE-LoRA on this model"):
            watched(host, plain, edit)


def test_picture_and_report_show_it(run, loras):
    picture, report, usage, _ = run
    assert picture.ndim == 4 and picture.shape[-1] == 3
    assert picture.min() >= 0
    assert picture.max() <= 1
    pixels = (picture[0] * 255).round().int().flatten(0, 1)
    colour_of = loras.host.module("training.usage_picture").colour_of
    for expert in range(4):
        assert (pixels == torch.tensor(colour_of(expert))).all(-1).sum() > 200, "the legend at least"
    shares = usage.adapters[0].layers[1].shares
    assert shares.sum() == pytest.approx(1.0)
    line = next(line for line in report.splitlines() if line.startswith("single_blocks.0.linear2"))
    assert f"{100 * float(shares[0]):.0f} %" in line
    assert "random start" in report


def flattened(host, name, weights="equal", rank=0, **inputs):
    return host.call("FlattenMoELoRA", lora_name=name, weights=weights, rank=rank, **inputs)


def host_loads(host, model, name, caplog):
    """The model with the host's own LoRA loader, which only logs what it does not use."""
    caplog.clear()
    (loaded,) = host.call("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=1.0)
    assert "not loaded" not in caplog.text
    return loaded


@pytest.mark.parametrize("weights", ["equal", "measured", "fitted"])
def test_the_host_uses_every_key(host, base, model, run, file, loras, caplog, weights):
    name, report = flattened(host, file, weights, usage=run[2])
    tensors = load_file(loras.folder / name)
    loaded = host_loads(host, base, name, caplog)
    # Fused projections are patched in parts.
    assert 2 * sum(len(patches) for patches in loaded.patches.values()) == len(tensors)
    assert {f"diffusion_model.{layer.path}.weight" for layer in run[2].adapters[0].layers} <= loaded.patches.keys()
    with safe_open(loras.folder / name, "pt") as opened:
        about = json.loads(opened.metadata()["icedit"])
    assert (about["source"], about["weights"], about["rank"]) == (file, weights, 16)
    assert about["loss"] in report


@pytest.mark.parametrize("beside", [False, True], ids=["experts alone", "an ordinary LoRA on the same layer"])
def test_experts_that_are_alike_lose_nothing(host, loras, caplog, beside):
    """Then routing makes no difference, so the file must do what the routed one does, alpha and ordinary part too."""
    vectors, tensors = golden.read("top1"), moe.golden_tensors("top1")
    for key in [key for key in tensors if ".expert_" in key]:
        head, _, tail = key.partition(".expert_")
        tensors[key] = tensors[f"{head}.expert_0.{tail.partition('.')[2]}"].clone()
    layer = "transformer.single_transformer_blocks.0.proj_out"
    rank, inputs = tensors[f"{layer}.lora_A.expert_0.weight"].shape
    outputs = tensors[f"{layer}.lora_B.expert_0.weight"].shape[0]
    if beside:
        draw = torch.Generator().manual_seed(8)
        tensors[f"{layer}.lora_A.weight"] = torch.randn(2, inputs, generator=draw) * inputs**-0.5
        tensors[f"{layer}.lora_B.weight"] = torch.randn(outputs, 2, generator=draw) * 0.1
    else:
        tensors[f"{layer}.alpha"] = torch.tensor(2.0 * rank)
    tensors = {key: tensor.float() for key, tensor in tensors.items()}
    source, model = loras.save(tensors), vectors.load_model()
    wanted = golden.evaluate(loras.load(model, source), vectors)
    for kept in (0, rank):
        name, _ = flattened(host, source, rank=kept)
        result = golden.evaluate(host_loads(host, model, name, caplog), vectors)
        assert golden.difference(result, wanted) < 1e-4
        assert golden.difference(golden.evaluate(model, vectors), wanted) > 1e-2


def test_a_file_that_is_there_stays(host, loras, file, run, model, edit):
    first, _ = flattened(host, file, "measured", 4, usage=run[2])
    before = (loras.folder / first).read_bytes()
    assert flattened(host, file, "measured", 4, usage=run[2])[0] == first
    other = watched(host, model, edit, seed=9, steps=1)[2]
    second, _ = flattened(host, file, "measured", 4, usage=other)
    assert second == first.replace(".safetensors", "_2.safetensors")
    assert (loras.folder / first).read_bytes() == before
    assert not list(loras.folder.glob(".*"))


def test_what_cannot_be_flattened_is_said(host, loras, file, run, tensors, tmp_path, monkeypatch):
    plain, _ = moe.split(tensors)
    with pytest.raises(ValueError, match="has no experts"):
        flattened(host, loras.save(plain))
    with pytest.raises(ValueError, match="no usage is connected"):
        flattened(host, file, "fitted")
    other = loras.save(moe_lora(seed=77))
    with pytest.raises(ValueError, match="usage is of another file"):
        flattened(host, other, "measured", usage=run[2])
    layer = next(key for key in plain if key.endswith("lora_B.weight"))
    biased = loras.save(tensors | {layer.replace("weight", "bias"): torch.zeros(len(plain[layer]))})
    with pytest.raises(ValueError, match="biases"):
        flattened(host, biased)
    import folder_paths

    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda _: [str(tmp_path / "file" / "loras")])
    with pytest.raises(ValueError, match="cannot be written into ComfyUI's loras folder"):
        flattened(host, file)
