"""Files and models that are not what they should be, by name; and files that change on disk while they are in use."""

from pathlib import Path

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

FILL = {"depth": 19, "depth_single_blocks": 38, "hidden_size": 3072}


@pytest.fixture
def model(vectors):
    return vectors.load_model()


def refusal(loras, model, adapter):
    with pytest.raises(ValueError) as caught:
        loras.load(model, adapter)
    assert type(caught.value).__module__.endswith("moe_lora.errors")
    assert not model.patches
    return str(caught.value)


def lora_of(name):
    return {f"{name}.lora_A.weight": torch.ones(2, 8), f"{name}.lora_B.weight": torch.ones(8, 2)}


FOREIGN = {
    "Stable Diffusion": lora_of("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"),
    "SDXL": lora_of("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k"),
    "FLUX.2": lora_of("diffusion_model.double_stream_modulation_img.lin"),
    "Qwen-Image": lora_of("transformer_blocks.0.img_mlp.net.2"),
    "Wan": lora_of("diffusion_model.blocks.0.self_attn.q"),
    "Z-Image": lora_of("diffusion_model.layers.0.attention.to_q"),
    "Diffusion 3": lora_of("diffusion_model.joint_blocks.0.x_block.attn.qkv"),
    "HiDream": lora_of("double_stream_blocks.0.block.attn1.to_q"),
    "a whole model": {"double_blocks.0.img_attn.qkv.weight": torch.ones(8, 8)},
    "a ControlNet": {"controlnet_blocks.0.weight": torch.ones(8, 8)},
    "an IP-Adapter": {"image_proj.proj.weight": torch.ones(8, 8)},
    "an embedding": {"clip_l": torch.ones(1, 8)},
    "PEFT's": {"transformer_blocks.0.attn.to_q.vera_lambda_b": torch.ones(8)},
    "layout that is not known": {"transformer_blocks.0.attn.to_q.delta": torch.ones(8, 8)},
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("size", ["tiny", "the original's"])
def test_a_file_that_does_not_fit_is_named_and_the_right_model_not_blamed(loras, model, monkeypatch, kind, size):
    if size != "tiny":
        for name, value in FILL.items():
            monkeypatch.setitem(model.model.model_config.unet_config, name, value)
    text = refusal(loras, model, FOREIGN[kind])
    assert kind in text
    assert "would not be loaded" in text
    assert "every key" in text
    assert "Load FLUX.1-Fill" not in text
    assert ("of another size" if size == "tiny" else "it is the file that does not fit") in text


def test_a_layer_of_another_shape_blames_the_file_on_fill(loras, model, monkeypatch):
    tensors = pairs({"x_embedder": (128, 64)}, name="transformer.{}".format)
    for name, value in FILL.items():
        monkeypatch.setitem(model.model.model_config.unet_config, name, value)
    text = refusal(loras, model, tensors)
    assert "x_embedder.lora_A.weight has the shape [4, 64]" in text
    assert "it is the file that does not fit" in text


def test_bfl_control_on_fill(loras, model):
    text = refusal(loras, model, bfl_control())
    assert "img_in.lora_A.weight has the shape [4, 128]" in text
    assert "control LoRA of Black Forest Labs" in text
    assert "made for FLUX.1-dev" in text
    assert "Load FLUX.1-Fill" not in text


def test_bfl_control_on_a_shorter_model(loras):
    text = refusal(loras, flux_model(double_blocks=2, single_blocks=2, in_features=64), bfl_control(blocks=3))
    assert "blocks.2" in text
    assert "control LoRA of Black Forest Labs" in text


def test_a_set_weight_of_another_shape(loras, model):
    """The host would stop in the middle of loading the model."""
    key = "diffusion_model.single_blocks.0.norm.key_norm.set_weight"
    assert key in refusal(loras, model, {key: torch.ones(64)})


def test_a_magnitude_of_another_length(loras, model):
    tensors = pairs({"x_embedder": (128, 384)}, name="transformer.{}".format)
    text = refusal(loras, model, tensors | {"transformer.x_embedder.lora_magnitude_vector": torch.ones(384)})
    assert "lora_magnitude_vector has the shape [384]" in text


LYCORIS = {
    "loha": {"hada_w1_a": (128, 4), "hada_w1_b": (4, 128), "hada_w2_a": (128, 4), "hada_w2_b": (4, 128)},
    "lokr": {"lokr_w1": (8, 8), "lokr_w2_a": (16, 4), "lokr_w2_b": (4, 16)},
}


@pytest.mark.parametrize("kind", LYCORIS)
def test_lycoris_products(loras, model, kind):
    """The host would log an error and leave the layer as it is, or stop in the middle of loading the model."""
    draw = torch.Generator().manual_seed(7)
    tensors = {part: torch.randn(shape, generator=draw) for part, shape in LYCORIS[kind].items()}

    def on(layer, parts):
        return {f"lycoris_{layer}.{part}": tensor for part, tensor in parts.items()}

    fits = on("transformer_blocks_0_attn_to_q", tensors)
    assert_same_weights(loras.load(model, fits), loras.plain(model, fits))
    assert "take 128 and give 128 features" in refusal(loras, model, on("x_embedder", tensors))
    last = [*tensors][-1]
    cut, without = {**tensors, last: tensors[last][:3]}, {part: tensors[part] for part in tensors if part != last}
    assert "do not fit" in refusal(loras, model, on("transformer_blocks_0_attn_to_q", cut))
    assert "is missing" in refusal(loras, model, on("transformer_blocks_0_attn_to_q", without))


@pytest.mark.parametrize("ending", ["lora_magnitude_vector", "lora_B.bias"])
def test_a_part_without_its_pair(loras, model, ending):
    tensors = pairs({"x_embedder": (128, 384)}, name="transformer.{}".format)
    key = f"transformer.proj_out.{ending}"
    text = refusal(loras, model, tensors | {key: torch.ones(128)})
    assert key in text
    assert "which belongs to it" in text


@pytest.mark.parametrize("number", ["alpha", "reshape_weight"])
def test_a_number_that_nothing_takes(loras, model, number):
    """Beside other layers that are used; a new shape is for a pair of matrices, not for a difference."""
    tensors = pairs({"x_embedder": (128, 384)}, name="transformer.{}".format)
    tensors["diffusion_model.final_layer.linear.diff"] = torch.ones(64, 128)
    layer = {"alpha": "context_embedder", "reshape_weight": "final_layer.linear"}[number]
    key = f"diffusion_model.{layer}.{number}"
    text = refusal(loras, model, tensors | {key: torch.tensor([64.0])})
    assert key in text
    assert "expected a place for every key" in text
    tensors |= {
        "transformer.x_embedder.alpha": torch.tensor(2.0),
        "diffusion_model.final_layer.linear.alpha": torch.ones(1),
    }
    assert loras.load(model, tensors).patches


def test_two_adapters_in_one_file(loras, model):
    one, two = (pairs({"x_embedder": (128, 384)}, f"lora_A.{n}.weight", f"lora_B.{n}.weight") for n in ("a", "b"))
    assert "2 adapters (a, b)" in refusal(loras, model, one | two)


def test_embeddings_alone(loras, model):
    assert "models/embeddings" in refusal(loras, model, {"bundle_emb.sks.clip_l": torch.ones(1, 8)})


BAD_HEADERS = {
    "no JSON": ({"lora_adapter_metadata": "{"}, "is no JSON"),
    "a list": ({"lora_adapter_metadata": "[]"}, "expected PEFT's settings by name"),
    "alpha in words": (header(r=RANK, lora_alpha="sixteen"), "lora_alpha of lora_adapter_metadata"),
    "alpha is infinite": ({"lora_adapter_metadata": '{"transformer.lora_alpha": Infinity}'}, "expected a number"),
    "another rank": (header(r=32, lora_alpha=32), "has rank 4, but the file's header says 32"),
    "a pattern that never ends": (header(lora_alpha=4, alpha_pattern={"(a+)+b": 2}), "expected a layer's name"),
    "no pattern": (header(lora_alpha=4, alpha_pattern={"(to_q": 2}), "expected a layer's name"),
    "patterns as a list": (header(lora_alpha=4, alpha_pattern=["to_q"]), "a number for each layer"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_a_header_that_leaves_the_scale_open(loras, model, case):
    metadata, words = BAD_HEADERS[case]
    name = loras.save(pairs(DIFFUSERS, name="transformer.{}".format), metadata)
    assert words in refusal(loras, model, name)


class NunchakuFluxTransformer2dModel(torch.nn.Module):
    """Named and built as Nunchaku's: other blocks, with fused layers in a packed format."""

    def __init__(self):
        super().__init__()
        block = torch.nn.Module()
        block.qkv_proj = torch.nn.Module()
        block.qkv_proj.register_buffer("qweight", torch.zeros(384, 64, dtype=torch.int8))
        self.transformer_blocks = torch.nn.ModuleList([block])


class ComfyFluxWrapper(torch.nn.Module):
    """What Nunchaku puts in the place of the host's FLUX."""

    def __init__(self, inner):
        super().__init__()
        self.model, self.dtype, self.loras = inner, torch.float32, []

    def forward(self, *args, **kwargs):
        return self.model(*args, **kwargs)


@pytest.mark.parametrize("kind", ["ordinary", "MoE"])
def test_a_wrapper_with_layers_of_its_own(loras, model, kind):
    model.model.diffusion_model = ComfyFluxWrapper(NunchakuFluxTransformer2dModel())
    plain, _ = moe.split(moe.golden_tensors("top1"))
    text = refusal(loras, model, plain if kind == "ordinary" else moe.golden_tensors("top1"))
    for words in ("ComfyFluxWrapper around NunchakuFluxTransformer2dModel", "LoRA Loader", "fp8", "GGUF"):
        assert words in text
    assert "Load FLUX.1-Fill" not in text
    assert model.model.diffusion_model.loras == []


def compiled(module):
    """In place, as some packs do it, not by the host's object patch."""
    return torch.compile(module, backend="eager")


@pytest.mark.parametrize("kind", ["PEFT", "kohya", "MoE"])
@pytest.mark.parametrize("wrapper", [ComfyFluxWrapper, compiled])
def test_a_wrapper_around_the_hosts_flux(loras, model, vectors, kind, wrapper):
    """All of it works: ordinary layers in any names, and experts."""
    tensors = {
        "PEFT": lambda: pairs(DIFFUSERS, name="transformer.{}".format),
        "kohya": lambda: pairs(HOSTS, "lora_down.weight", "lora_up.weight", joined("lora_unet_")),
        "MoE": moe.golden_tensors,
    }[kind]()
    wanted = golden.evaluate(loras.load(vectors.load_model(), tensors), vectors)
    base = golden.evaluate(model, vectors)
    model.model.diffusion_model = wrapper(model.model.diffusion_model)
    found = golden.evaluate(loras.load(model, tensors), vectors)
    assert (found - wanted).abs().max() <= 1e-5
    assert (found - base).abs().max() > 0.01
    assert golden.evaluate(model, vectors).equal(base)


def mapped(path):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not say what is mapped")
    return str(path) in maps.read_text()


@pytest.mark.parametrize("kind", ["ordinary", "MoE"])
def test_a_file_in_use_may_be_overwritten_in_place(loras, model, vectors, kind):
    """Read from the disk when needed, the weights would change, or the process end with SIGBUS."""
    tensors = moe.golden_tensors("top1") if kind == "MoE" else moe.split(moe.golden_tensors("top1"))[0]
    wanted = golden.evaluate(loras.load(model, tensors), vectors)
    name = loras.save(tensors)
    path = loras.folder / name
    patched = loras.load(model, name)
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(size // 4)
        file.write(bytes(size - size // 4))
    assert golden.evaluate(patched, vectors).equal(wanted)
    assert not mapped(path)


def test_a_refused_file_may_be_replaced_at_once(loras, model):
    """While the host still shows the error."""
    tensors = moe.golden_tensors("top1")
    tensors["transformer.x_embedder.lora_A.weight"][0, 0] = float("nan")
    name = loras.save(tensors)
    with pytest.raises(ValueError, match="NaN") as caught:
        loras.load(model, name)
    assert not mapped(loras.folder / name)
    assert caught.value is not None


def test_the_experts_are_in_memory_once(loras, model):
    """In the file's own dtype the stacked weights are the ones that were read."""
    checkpoint = loras.host.module("moe_lora.checkpoint")
    layer = checkpoint.read_adapter(golden.read("top1").adapter_file).routed[0]
    down, up = layer.stacked(torch.float32)
    assert layer.down[1].untyped_storage().data_ptr() == down.untyped_storage().data_ptr()
    assert layer.up[1].untyped_storage().data_ptr() == up.untyped_storage().data_ptr()
