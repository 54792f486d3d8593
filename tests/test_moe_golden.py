"""The adapter through the real host equals the paper's own layers."""

import pytest
import torch
from support import golden, moe

pytestmark = pytest.mark.host


@pytest.fixture(params=golden.NAMES)
def vectors(request):
    return golden.read(request.param)


def apply(vectors, model):
    """Without the node, so that a process needs no nodes to run this."""
    from icedit.host.moe_lora.apply import Strengths, apply_adapter
    from icedit.host.moe_lora.experts import HeldAdapter
    from icedit.moe_lora.checkpoint import read_adapter

    with torch.inference_mode():
        return apply_adapter(model, HeldAdapter(read_adapter(vectors.adapter_file)), Strengths(1.0, 1.0, vectors.top_k))


def test_the_whole_model_equals_the_papers(vectors):
    model = vectors.load_model()
    patched = apply(vectors, model)
    base = golden.evaluate(model, vectors)
    assert golden.difference(base, vectors.expected["output_base"]) <= golden.TOLERANCE
    result = golden.evaluate(patched, vectors)
    assert golden.difference(result, vectors.expected["output_moe_lora"]) <= golden.TOLERANCE
    assert golden.evaluate(model, vectors).equal(base)


@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("layer", ["transformer_blocks.0.ff.net.2", "single_transformer_blocks.1.proj_out"])
def test_each_layer_equals_the_papers(vectors, layer, gathered, monkeypatch):
    """Also where an expert's tokens are gathered, as those of full-size models are."""
    if gathered:
        monkeypatch.setattr("icedit.moe_lora.layer.GATHERING_PAYS", 0)
    from icedit.host.moe_lora.experts import RoutedExperts
    from icedit.moe_lora.checkpoint import read_adapter

    (weights,) = [routed for routed in read_adapter(vectors.adapter_file).routed if routed.name == layer]
    routed = RoutedExperts([weights], torch.float32, float32_product=False).layers[0]
    tokens, base = vectors.expected[f"{layer}.input"], vectors.expected[f"{layer}.base_output"]
    with torch.inference_mode():
        output = routed(tokens, base, 1.0, vectors.top_k)
    assert golden.difference(output, vectors.expected[f"{layer}.output"]) <= golden.TOLERANCE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_within_its_rounding(vectors, dtype):
    """Beside the same half-precision model with experts computed in float64 and added by hooks, rounded once."""
    import comfy.lora

    model = vectors.load_model(dtype)
    model.set_model_compute_dtype(dtype)  # on a CPU the host would compute in float32
    plain, routed = moe.split(moe.golden_tensors(vectors.name))
    merged = model.clone()
    key_map = comfy.lora.model_lora_keys_unet(model.model, {})
    merged.add_patches(comfy.lora.load_lora(plain, key_map))
    with moe.plain_experts(model, (routed, 1.0, vectors.top_k)):
        reference = golden.evaluate(merged, vectors)
    error = golden.evaluate(apply(vectors, model), vectors) - reference
    assert error.norm() <= torch.finfo(dtype).eps * reference.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_routes_as_float64_does(vectors, dtype):
    """20000 tokens of a half-precision model: the same experts as the unrounded router chooses for them."""
    from icedit.host.moe_lora.experts import RoutedExperts
    from icedit.moe_lora.checkpoint import read_adapter

    for weights in read_adapter(vectors.adapter_file).routed:
        experts = RoutedExperts([weights], dtype, float32_product=False)
        tokens = torch.randn(20000, weights.in_features, generator=torch.Generator().manual_seed(1)).to(dtype)
        with torch.inference_mode():
            _, logits = experts.layers[0].down(tokens, weights.experts)
        wanted = (tokens.double() @ weights.router.double().T).topk(vectors.top_k).indices
        same = (logits.topk(vectors.top_k).indices == wanted).all(-1)
        assert same.double().mean() >= 0.999


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_routes_as_the_float32_model_does(vectors, dtype):
    """The paper's recorded inputs, rounded: every token still gets the experts it got in float32."""
    from icedit.host.moe_lora.experts import RoutedExperts
    from icedit.moe_lora.checkpoint import read_adapter

    for weights in read_adapter(vectors.adapter_file).routed:
        if f"{weights.name}.input" not in vectors.expected:
            continue
        tokens = vectors.expected[f"{weights.name}.input"]
        experts = RoutedExperts([weights], dtype, float32_product=False)
        with torch.inference_mode():
            _, logits = experts.layers[0].down(tokens.to(dtype), weights.experts)
        wanted = (tokens.double() @ weights.router.double().T).topk(vectors.top_k).indices
        assert logits.topk(vectors.top_k).indices.equal(wanted)
