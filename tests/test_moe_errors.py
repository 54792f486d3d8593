"""A file is used whole or refused with one clear sentence, and the model that came in stays as it was."""

import pickle

import pytest
import torch
from safetensors.torch import save
from support import golden, moe

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def model(vectors):
    return vectors.load_model()


@pytest.fixture
def tensors():
    return moe.golden_tensors("top1")


@pytest.fixture
def refused(loras, model, vectors):
    """Loads what must be refused; checks the message and that the model is as it was."""
    before = golden.evaluate(model, vectors)

    def check(adapter, *words, base=None, **inputs):
        with pytest.raises(ValueError) as caught:
            loras.load(base or model, adapter, **inputs)
        assert type(caught.value).__module__.endswith("moe_lora.errors")
        for word in words:
            assert word in str(caught.value)
        assert moe.untouched(base or model)
        assert golden.evaluate(model, vectors).equal(before)

    return check


LAYER = "transformer.single_transformer_blocks.1.proj_out.lora_"


def test_missing_router(refused, tensors):
    del tensors[f"{LAYER}route.weight"]
    refused(tensors, "single_transformer_blocks.1.proj_out.lora_route.weight missing", "one router", "Download")


def test_missing_half_of_an_expert(refused, tensors):
    del tensors[f"{LAYER}B.expert_2.weight"]
    refused(tensors, "proj_out.lora_B.expert_2.weight missing", "expected 4 experts")


def test_missing_last_expert(refused, tensors):
    for part in "AB":
        del tensors[f"{LAYER}{part}.expert_3.weight"]
    refused(tensors, "proj_out.lora_route.weight has the shape [4, 640]", "expected [3, 640]")


def test_router_without_experts(refused, tensors):
    refused({key: tensor for key, tensor in tensors.items() if "expert" not in key}, "lora_route.weight", "has none")


def test_rank_mismatch(refused, tensors):
    tensors[f"{LAYER}A.expert_1.weight"] = tensors[f"{LAYER}A.expert_1.weight"][:5]
    refused(tensors, "lora_A.expert_1.weight has the shape [5, 640]", "expected [8, 640]")


def test_rank_mismatch_in_an_ordinary_layer(refused, tensors):
    key = "transformer.transformer_blocks.1.attn.to_out.0.lora_A.weight"
    tensors[key] = tensors[key][:5]
    refused(tensors, "to_out.0.lora_A.weight [5, 128]", "same rank")


@pytest.mark.parametrize("part", "AB")
def test_missing_half_of_an_ordinary_pair(refused, tensors, part):
    del tensors[f"transformer.x_embedder.lora_{part}.weight"]
    refused(tensors, "x_embedder.lora_")


@pytest.mark.parametrize("key", ["transformer.mystery.weight", "noise"])
def test_unknown_keys(refused, tensors, key):
    refused(tensors | {key: torch.ones(4, 4)}, key, "would not be loaded", "every key", "layout that is not known")


def test_keys_of_a_block_that_the_model_does_not_have(refused, tensors):
    name = "transformer.transformer_blocks.9.attn.to_q.lora_"
    extra = {f"{name}A.weight": torch.ones(2, 128), f"{name}B.weight": torch.ones(128, 2)}
    refused(tensors | extra, f"{name}A.weight", "no such weight", "every key", "2 double and 2 single blocks")


def test_a_stray_alpha(refused, tensors):
    refused(tensors | {"transformer.transformer_blocks.0.attn.to_add_out.alpha": torch.tensor(8.0)}, "to_add_out.alpha")


@pytest.mark.parametrize("layer", ["x_embedder", "transformer_blocks.0.ff.net.2"])
def test_an_alpha_of_several_numbers(refused, tensors, layer):
    refused(tensors | {f"transformer.{layer}.alpha": torch.ones(2)}, f"{layer}.alpha", "one number")


def test_keys_of_a_text_encoder(refused, tensors):
    key = "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"
    refused(tensors | {key: torch.ones(4, 4)}, key, "Model and CLIP")


def test_the_same_weight_twice(refused, tensors):
    key = f"{LAYER}A.expert_0.weight"
    refused(tensors | {key.removeprefix("transformer."): tensors[key].clone()}, key, "two names of the same weight")


def test_the_same_ordinary_layer_in_two_formats(refused, tensors):
    """The host takes one and forgets the other."""
    name = "lora_transformer_x_embedder.lora_"
    extra = {f"{name}down.weight": torch.ones(2, 384), f"{name}up.weight": torch.ones(128, 2)}
    refused(tensors | extra, "two names of the same weight", f"{name}down.weight")


def test_experts_elsewhere(refused, tensors):
    moved = {
        key.replace("proj_out", "proj_mlp") if moe.is_routed(key) else key: tensor for key, tensor in tensors.items()
    }
    refused(moved, "proj_mlp", "no ICEdit MoE-LoRA")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", [f"{LAYER}route.weight", "transformer.x_embedder.lora_A.weight"])
def test_values_that_are_no_numbers(refused, tensors, key, value):
    tensors[key][1, 7] = value
    refused(tensors, key, "NaN or infinite")


@pytest.mark.parametrize("top_k", [5, -1])
def test_top_k_out_of_range(refused, tensors, top_k):
    refused(tensors, f"top_k is {top_k}", "expected 1 to 4", top_k=top_k)


def test_a_strength_that_is_no_number(refused, tensors):
    refused(tensors, "strength is nan", "finite", strength=float("nan"))


def test_a_truncated_file(refused, loras, tensors):
    refused(loras.write(save(tensors)[:-1000]), "broken.safetensors", "damaged")


def test_a_pickled_file_under_a_wrong_name(refused, loras, tensors):
    refused(loras.write(pickle.dumps({"a": 1})), "broken.safetensors", "another kind")


def test_a_pickled_file(refused, loras):
    class Evil:
        def __reduce__(self):
            return pytest.fail, ("it was unpickled",)

    refused(loras.write(pickle.dumps(Evil()), "evil.pt"), "evil.pt", "can run any code")


def test_an_empty_file(refused, loras):
    refused(loras.write(b""), "damaged")
    refused(loras.write(save({})), "no tensors")


def test_no_such_file(refused):
    refused("nowhere.safetensors", "no file 'nowhere.safetensors'", "models/loras")


def other_models():
    from support.tiny_stack import FluxShape, flux

    shape = FluxShape(double_blocks=2, single_blocks=2)
    schnell = flux(FluxShape(double_blocks=2, single_blocks=2, in_features=64, guidance=False))
    wide = flux(FluxShape(hidden=256, double_blocks=2, single_blocks=2))
    short = flux(FluxShape(double_blocks=1, single_blocks=1))
    flux2 = {key: tensor for key, tensor in flux(shape).items() if not key.endswith("bias") and "_mod" not in key}
    flux2 = {key: tensor for key, tensor in flux2.items() if "modulation" not in key or "final" in key}
    flux2 |= {f"double_stream_modulation_{part}.lin.weight": torch.zeros(768, 128) for part in ("img", "txt")}
    flux2["final_layer.linear.weight"] = torch.zeros(128, 128)
    flux2["single_stream_modulation.lin.weight"] = torch.zeros(384, 128)
    for block in range(2):
        for stream in ("img", "txt"):
            flux2[f"double_blocks.{block}.{stream}_mlp.0.weight"] = torch.zeros(768, 128)
            flux2[f"double_blocks.{block}.{stream}_mlp.2.weight"] = torch.zeros(128, 384)
        flux2[f"single_blocks.{block}.linear1.weight"] = torch.zeros(1152, 128)
        flux2[f"single_blocks.{block}.linear2.weight"] = torch.zeros(128, 512)
    return {"schnell": schnell, "wide": wide, "short": short, "flux2": flux2}


OTHERS = {
    "schnell": "Load FLUX.1-Fill",
    "flux2": "Load FLUX.1-Fill",
    "wide": "FLUX.1-Fill of another size (2 double and 2 single blocks of width 256",
    "short": "FLUX.1-Fill of another size (1 double and 1 single blocks of width 128",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_flux_models(refused, tensors, kind):
    import comfy.sd

    model = comfy.sd.load_diffusion_model_state_dict(other_models()[kind], {"dtype": torch.float32})
    assert model is not None
    refused(tensors, OTHERS[kind], type(model.model).__name__, base=model)


def test_sdxl(refused, tensors):
    import comfy.model_patcher
    import comfy.supported_models

    unet = dict(
        image_size=32, in_channels=4, out_channels=4, model_channels=32, num_res_blocks=[1, 1], channel_mult=[1, 2],
        transformer_depth=[1, 1], transformer_depth_middle=1, transformer_depth_output=[1, 1, 1, 1], context_dim=32,
        num_heads=2, use_spatial_transformer=True, use_linear_in_transformer=True, adm_in_channels=64,
        num_classes="sequential", use_temporal_attention=False, legacy=False, dtype=torch.float32,
    )  # fmt: skip
    config = comfy.supported_models.SDXL(unet)
    device = torch.device("cpu")
    model = comfy.model_patcher.ModelPatcher(config.get_model({}, device=device), device, device)
    refused(tensors, "Load FLUX.1-Fill", "SDXL", base=model)
