"""LoRA files as the field's tools write them: each is loaded as ComfyUI or its own tool would, or refused by name."""

import pytest
import torch
from support import golden, moe
from support.lora_layouts import (
    DIFFUSERS,
    HOSTS,
    RANK,
    assert_same_weights,
    bfl_control,
    flux_model,
    header,
    joined,
    pairs,
)

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def model(vectors):
    return vectors.load_model()


def half_joined(layer):
    """musubi-tuner knows where HunyuanVideo's dots are, and FLUX.1's attention is named otherwise."""
    return "diffusion_model." + layer.replace("_attn.", "_attn_")


KOHYA = ("lora_down.weight", "lora_up.weight")
LAYOUTS = {
    "kohya with diffusers names": (DIFFUSERS, *KOHYA, joined("lora_unet_")),
    "OneTrainer": (DIFFUSERS, *KOHYA, joined("lora_transformer_")),
    "LyCORIS": (DIFFUSERS, *KOHYA, joined("lycoris_")),
    "kohya": (HOSTS, *KOHYA, joined("lora_unet_")),
    "musubi-tuner": (HOSTS, "lora_A.weight", "lora_B.weight", half_joined),
    "PEFT, adapter default": (DIFFUSERS, "lora_A.default.weight", "lora_B.default.weight", "transformer.{}".format),
    "PEFT, adapter icedit": (DIFFUSERS, "lora_A.icedit.weight", "lora_B.icedit.weight", "base_model.model.{}".format),
    "PEFT without .weight": (DIFFUSERS, "lora_A", "lora_B", "transformer.{}".format),
    "diffusers before PEFT": (DIFFUSERS, "lora.down.weight", "lora.up.weight", "transformer.{}".format),
    "diffusers' linear layers": (DIFFUSERS, "lora_linear_layer.down.weight", "lora_linear_layer.up.weight", str),
    "no prefix": (HOSTS, "lora_A.weight", "lora_B.weight", str),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("alpha", [None, 2.0])
def test_the_same_lora_in_another_layout(loras, model, layout, alpha):
    layers, down, up, name = LAYOUTS[layout]
    prefix = "transformer." if layers is DIFFUSERS else "diffusion_model."
    scales = (
        [{}, {}]
        if alpha is None
        else [{f"{n(k)}.alpha": torch.tensor(alpha) for k in layers} for n in (name, lambda layer: prefix + layer)]
    )
    wanted = loras.plain(model, pairs(layers, name=lambda layer: prefix + layer) | scales[1])
    assert_same_weights(loras.load(model, pairs(layers, down, up, name) | scales[0]), wanted)


XLABS = {
    "double_blocks.0.processor.qkv_lora1": "double_blocks.0.img_attn.qkv",
    "double_blocks.1.processor.proj_lora1": "double_blocks.1.img_attn.proj",
    "double_blocks.0.processor.qkv_lora2": "double_blocks.0.txt_attn.qkv",
    "double_blocks.1.processor.proj_lora2": "double_blocks.1.txt_attn.proj",
}
USO = XLABS | {
    "single_blocks.0.processor.qkv_lora": "single_blocks.0.linear1_qkv",
    "single_blocks.1.processor.proj_lora": "single_blocks.1.linear2",
}


def shape_of(layer):
    return (384 if "qkv" in layer else 128, 640 if layer.endswith("proj_lora") else 128)


@pytest.mark.parametrize("names", [XLABS, USO], ids=["XLabs", "USO on a short model"])
def test_xlabs_processors(loras, model, names):
    layers = {layer: shape_of(layer) for layer in names}
    wanted = pairs(layers, name=lambda layer: f"diffusion_model.{names[layer]}")
    assert_same_weights(loras.load(model, pairs(layers, "down.weight", "up.weight")), loras.plain(model, wanted))


def test_uso_as_the_host_converts_it(loras):
    """The host knows USO's file by its last blocks, so the model has to have as many as FLUX.1."""
    model = flux_model(double_blocks=19, single_blocks=38)
    names = [f"double_blocks.{i}.processor.{part}_lora{n}" for i in (0, 18) for part in ("qkv", "proj") for n in (1, 2)]
    names += [f"single_blocks.{i}.processor.{part}_lora" for i in (0, 37) for part in ("qkv", "proj")]
    tensors = pairs({name: shape_of(name) for name in names}, "down.weight", "up.weight")
    assert_same_weights(loras.load(model, tensors, 0.7), loras.plain(model, tensors, 0.7))


def test_bfl_control_as_the_host_converts_it(loras):
    model = flux_model(double_blocks=2, single_blocks=2, in_features=64)
    tensors = bfl_control()
    ours = loras.load(model, tensors, 0.8)
    assert_same_weights(ours, loras.plain(model, tensors, 0.8))
    found = moe.merged(ours)
    assert found["diffusion_model.img_in.weight"].shape == (128, 128)
    assert found["diffusion_model.single_blocks.1.norm.key_norm.weight"].equal(
        tensors["single_blocks.1.norm.key_norm.scale"]
    )
    assert "control LoRA of Black Forest Labs" in loras.report(model, tensors)


HEADERS = {
    "alpha": (dict(r=RANK, lora_alpha=6), {}, 6.0),
    "of some layers": (
        dict(r=RANK, lora_alpha=6, alpha_pattern={"attn.to_q": 1, r"^transformer_blocks\.\d+\.ff.net.0.proj": 3}),
        {"transformer_blocks.0.attn.to_q": 1.0, "transformer_blocks.0.ff.net.0.proj": 3.0}, 6.0,
    ),
    "of other ranks": (dict(r=8, lora_alpha=2, rank_pattern=dict.fromkeys(DIFFUSERS, RANK)), {}, 2.0),
    "rank stabilized": (dict(r=RANK, lora_alpha=6, use_rslora=True), {}, 6.0 * RANK**0.5),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
def test_alpha_in_the_header(loras, model, case):
    settings, of_layers, alpha = HEADERS[case]
    tensors = pairs(DIFFUSERS, name="transformer.{}".format)
    scales = {f"transformer.{layer}.alpha": torch.tensor(of_layers.get(layer, alpha)) for layer in DIFFUSERS}
    name = loras.save(tensors, header(**settings))
    assert_same_weights(loras.load(model, name), loras.plain(model, tensors | scales))
    assert f"alpha of {len(DIFFUSERS)} layers from the file's header" in loras.report(model, name)


def test_an_alpha_beside_its_layer_comes_before_the_headers(loras, model):
    tensors = pairs(DIFFUSERS, name="transformer.{}".format) | {"transformer.x_embedder.alpha": torch.tensor(1.0)}
    name = loras.save(tensors, header(r=RANK, lora_alpha=RANK))
    assert_same_weights(loras.load(model, name), loras.plain(model, tensors))


def test_alpha_in_the_header_scales_experts_too(loras, model, vectors):
    """Alpha at twice the rank is what halving every B makes up for."""
    tensors = {k: tensor / 2 if ".lora_B." in k else tensor for k, tensor in moe.golden_tensors("top1").items()}
    name = loras.save(tensors, header(r=8, lora_alpha=16))
    difference = golden.evaluate(loras.load(model, name), vectors) - vectors.expected["output_moe_lora"]
    assert difference.abs().max() <= 1e-5
    assert "alpha of 25 layers from the file's header" in loras.report(model, name)


@pytest.mark.parametrize("adapter", ["default", "icedit"])
def test_experts_of_a_named_adapter(loras, model, vectors, adapter):
    named = {}
    for key, tensor in moe.golden_tensors("top1").items():
        head, part = key.rpartition(".lora_")[::2]
        kind, rest = part.split(".", 1)
        named[f"{head}.lora_{kind}.{adapter}.{rest}"] = tensor
    difference = golden.evaluate(loras.load(model, named), vectors) - vectors.expected["output_moe_lora"]
    assert difference.abs().max() <= 1e-5


def rows_of(weight, layer):
    """The rows of the host's weight that a diffusers layer is, in the layer's own order."""
    if layer == "norm_out.linear":
        return weight.roll(128, 0)
    start = {"to_q": 0, "to_k": 128, "proj_mlp": 384}.get(layer.rpartition(".")[2])
    return weight if start is None else weight[start : start + DIFFUSERS[layer][0]]


OF_HOST = {
    "transformer_blocks.0.attn.to_q": "double_blocks.0.img_attn.qkv",
    "single_transformer_blocks.1.attn.to_k": "single_blocks.1.linear1",
    "single_transformer_blocks.0.proj_mlp": "single_blocks.0.linear1",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "x_embedder": "img_in",
}


@pytest.mark.parametrize("ending", ["", ".weight", ".default.weight"])
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_dora_as_peft_trains_it(loras, model, ending, strength):
    layers = {layer: DIFFUSERS[layer] for layer in OF_HOST}
    tensors = pairs(layers, name="transformer.{}".format)
    draw = torch.Generator().manual_seed(5)
    sizes = {layer: 0.5 + torch.rand(shape[0], generator=draw) for layer, shape in layers.items()}
    file = tensors | {f"transformer.{layer}.lora_magnitude_vector{ending}": size for layer, size in sizes.items()}
    name = loras.save(file, header(r=RANK, lora_alpha=6, use_dora=True))
    found = moe.merged(loras.load(model, name, strength))
    for layer, host in OF_HOST.items():
        key = f"diffusion_model.{host}.weight"
        base = rows_of(model.model.state_dict()[key], layer).double()
        down, up = (tensors[f"transformer.{layer}.lora_{part}.weight"].double() for part in "AB")
        merged = base + 6 / RANK * up @ down
        trained = sizes[layer].double()[:, None] * merged / merged.norm(dim=1, keepdim=True)
        wanted = base + strength * (trained - base)
        torch.testing.assert_close(rows_of(found[key], layer).double(), wanted, rtol=1e-5, atol=1e-6)
    assert "5 layers are DoRA" in loras.report(model, name)


@pytest.mark.parametrize("alpha", [None, 2.0])
def test_biases_of_peft(loras, model, alpha):
    layers = {layer: DIFFUSERS[layer] for layer in OF_HOST}
    draw = torch.Generator().manual_seed(6)
    biases = {layer: torch.randn(shape[0], generator=draw) for layer, shape in layers.items()}
    tensors = pairs(layers, name="transformer.{}".format)
    tensors |= {f"transformer.{layer}.lora_B.bias": bias for layer, bias in biases.items()}
    tensors |= {} if alpha is None else {f"transformer.{layer}.alpha": torch.tensor(alpha) for layer in layers}
    found = moe.merged(loras.load(model, tensors, 0.5))
    scale = 0.5 * (1 if alpha is None else alpha / RANK)
    for layer, host in OF_HOST.items():
        base = model.model.state_dict()[f"diffusion_model.{host}.bias"]
        change = rows_of(found[f"diffusion_model.{host}.bias"] - base, layer)
        torch.testing.assert_close(change, scale * biases[layer], rtol=1e-5, atol=1e-6)


def test_bundled_embeddings_are_named(loras, model):
    tensors = pairs(HOSTS)
    bundled = {"bundle_emb.sks.string_to_param.*": torch.ones(2, 32), "bundle_emb.old.clip_l": torch.ones(1, 32)}
    name = loras.save(tensors | bundled)
    assert_same_weights(loras.load(model, name), loras.plain(model, pairs(HOSTS, name="diffusion_model.{}".format)))
    report = loras.report(model, name)
    assert "(old, sks)" in report
    assert f"models/embeddings and write embedding:{name.removesuffix('.safetensors')}" in report
