"""The adapter in every way the host can run a model."""

import json

import pytest
import torch
from safetensors.torch import load_file
from support import golden, moe

pytestmark = pytest.mark.host


@pytest.fixture
def model(vectors):
    return vectors.load_model()


def assert_papers(model, vectors, **how):
    result = golden.evaluate(model, vectors, **how)
    assert golden.difference(result, vectors.expected["output_moe_lora"]) <= golden.TOLERANCE


def assert_base(model, vectors):
    assert moe.untouched(model)
    assert golden.difference(golden.evaluate(model, vectors), vectors.expected["output_base"]) <= golden.TOLERANCE


def assert_as_hooks(loras, model, tensors, vectors):
    """Equal to the host's own loader with the experts added by forward hooks, on whatever base this is."""
    plain, routed = moe.split(tensors)
    base = golden.evaluate(model, vectors)
    with moe.plain_experts(model, (routed, 1.0, 1)):
        wanted = golden.evaluate(loras.plain(model, plain), vectors)
    result = golden.evaluate(loras.load(model, tensors), vectors)
    assert golden.difference(result, wanted) <= golden.TOLERANCE
    assert golden.difference(result, base) > 1e-3
    assert golden.evaluate(model, vectors).equal(base)


def test_beside_the_original_and_clones(loras, model, vectors, tensors):
    patched = loras.load(model, tensors)
    for _ in range(2):
        for one in (patched, patched.clone(), loras.load(model, tensors)):
            assert_papers(one, vectors)
            assert_base(model, vectors)


def test_two_moe_files_at_once(loras, model, vectors, tensors):
    from support.tiny_stack import FluxShape, moe_lora

    other = moe_lora(FluxShape(hidden=128, double_blocks=2, single_blocks=2), experts=3, seed=5)
    first, second = loras.load(model, tensors), loras.load(model, other)
    wanted = golden.evaluate(second, vectors)
    assert_papers(first, vectors)
    assert golden.evaluate(second, vectors).equal(wanted)
    assert_papers(first, vectors)


def test_unload_and_reload(loras, model, vectors, tensors):
    import comfy.model_management

    patched = loras.load(model, tensors)
    for _ in range(2):
        assert_papers(patched, vectors)
        comfy.model_management.unload_all_models()
        assert_base(model, vectors)
        comfy.model_management.unload_all_models()


def test_a_tiny_memory_budget(loras, model, vectors, tensors):
    """The host's partial load: some weights stay offloaded and are patched at every call."""
    import comfy.model_management

    patched = loras.load(model, tensors)

    def load_partially(models):
        comfy.model_management.unload_all_models()
        for one in models:
            loaded = comfy.model_management.LoadedModel(one)
            loaded.model_load(lowvram_model_memory=30_000)
            comfy.model_management.current_loaded_models.insert(0, loaded)

    assert_papers(patched, vectors, load=load_partially)
    assert model.model.model_lowvram
    experts = patched.get_nested_additional_models()[0]
    assert experts.loaded_size() < experts.model_size()
    assert_base(model, vectors)


@pytest.mark.parametrize("state", ["LOW_VRAM", "NO_VRAM"])
def test_lowvram_and_novram(loras, model, vectors, tensors, monkeypatch, state):
    """What --lowvram and --novram switch on. The host refuses both beside --cpu, so they are switched on from here,
    and the memory that it would find on a small GPU is put in its place; how it then loads is its own doing."""
    import comfy.model_management as management

    def load_as_on_a_small_gpu(models):
        management.unload_all_models()
        with monkeypatch.context() as small:
            small.setattr(management, "vram_state", management.VRAMState[state])
            small.setattr(management, "is_device_cpu", lambda _: False)
            small.setattr(management, "get_free_memory", lambda *_, **__: 200_000)
            management.load_models_gpu(models)

    patched = loras.load(model, tensors)
    assert_papers(patched, vectors, load=load_as_on_a_small_gpu)
    assert model.model.model_lowvram
    assert_base(model, vectors)


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e4m3fn_fast"])
def test_fp8_weights(loras, vectors, tensors, weight_dtype):
    fast = {"fp8_optimizations": True} if weight_dtype.endswith("fast") else {}
    model = vectors.load_model(torch.float8_e4m3fn, **fast)
    assert model.model.diffusion_model.double_blocks[0].img_mlp[2].weight.dtype == torch.float8_e4m3fn
    assert_as_hooks(loras, model, tensors, vectors)


def quantized(vectors):
    """The tiny model with the two routed kinds of Linear in the host's own quantized format."""
    import comfy.sd

    weights = {key: tensor.clone() for key, tensor in vectors.load_model().model.diffusion_model.state_dict().items()}
    for block in range(2):
        for name in (f"double_blocks.{block}.img_mlp.2", f"single_blocks.{block}.linear2"):
            weight = weights[f"{name}.weight"]
            scale = weight.abs().max() / 448
            weights[f"{name}.weight"] = (weight / scale).to(torch.float8_e4m3fn)
            weights[f"{name}.weight_scale"] = scale
            weights[f"{name}.comfy_quant"] = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
    with torch.inference_mode():
        return comfy.sd.load_diffusion_model_state_dict(weights, {})


def test_a_quantized_base(loras, vectors, tensors):
    from comfy.quant_ops import QuantizedTensor

    model = quantized(vectors)
    assert isinstance(model.model.diffusion_model.single_blocks[1].linear2.weight, QuantizedTensor)
    assert_as_hooks(loras, model, tensors, vectors)


def packed_operations():
    """Linears as ComfyUI-GGUF has them: the weight is stored packed, in a shape of its own, unpacked per call."""
    import comfy.ops

    class Packed(torch.Tensor):
        """Bytes that pretend to nothing but their own packed shape."""

    class Operations(comfy.ops.manual_cast):
        class Linear(comfy.ops.manual_cast.Linear):
            def _load_from_state_dict(self, state_dict, prefix, *args):
                values = state_dict[f"{prefix}weight"].to(torch.bfloat16)
                packed = values.contiguous().view(torch.uint8).as_subclass(Packed)
                self.weight = torch.nn.Parameter(packed, requires_grad=False)
                bias = state_dict.get(f"{prefix}bias")
                self.bias = None if bias is None else torch.nn.Parameter(bias, requires_grad=False)

            def forward_comfy_cast_weights(self, input):
                weight = self.weight.as_subclass(torch.Tensor).view(torch.bfloat16).to(input.dtype)
                return torch.nn.functional.linear(input, weight, self.bias.to(input.dtype))

    return Operations, Packed


def test_a_gguf_style_base(loras, vectors, tensors):
    """The host cannot merge into such weights (ComfyUI-GGUF brings a patcher for that): the routed part alone."""
    operations, packed = packed_operations()
    model = vectors.load_model(custom_operations=operations)
    linear = model.model.diffusion_model.single_blocks[0].linear2
    assert isinstance(linear.weight, packed)
    assert linear.weight.shape != (128, 640)
    _, routed = moe.split(tensors)
    base = golden.evaluate(model, vectors)
    with moe.plain_experts(model, (routed, 1.0, 1)):
        wanted = golden.evaluate(model, vectors)
    result = golden.evaluate(loras.load(model, routed), vectors)
    assert golden.difference(result, wanted) <= golden.TOLERANCE
    assert golden.difference(result, base) > 1e-3


def fail_in_mid_step(patched, vectors, error, function):
    """Runs into `function` inside the last routed layer, when all of them are in place."""
    linear = patched.model.diffusion_model.single_blocks[1].linear2
    seen = []

    def fail(*_):
        seen.append("forward" in linear.__dict__)
        function()

    with linear.register_forward_pre_hook(fail), pytest.raises(error):
        golden.evaluate(patched, vectors)
    assert seen == [True]


def test_an_exception_in_mid_step(loras, model, vectors, tensors):
    patched = loras.load(loras.load(model, tensors, 0.5), tensors, 0.5)

    def fail():
        raise MemoryError("in mid-step")

    fail_in_mid_step(patched, vectors, MemoryError, fail)
    assert_base(model, vectors)
    assert_papers(loras.load(model, tensors), vectors)


def test_an_interrupt_in_mid_step(loras, model, vectors, tensors):
    import comfy.model_management as management

    patched = loras.load(model, tensors)
    interrupt = management.InterruptProcessingException
    fail_in_mid_step(patched, vectors, interrupt, lambda: management.interrupt_current_processing(True))
    assert not management.processing_interrupted()
    assert_base(model, vectors)
    assert_papers(patched, vectors)


def test_a_second_device_gets_experts_of_its_own(loras, model, vectors, tensors):
    """What the host does for several GPUs: a deep clone made by the loaders' factories, used beside the first."""
    import comfy.model_management

    if not hasattr(model, "deepclone_multigpu"):
        pytest.skip("this ComfyUI runs a model on one device only")
    patched = loras.load(model, tensors)
    device = comfy.model_management.get_torch_device()
    second = patched.deepclone_multigpu(new_load_device=device)
    assert second.model is not patched.model
    assert second.get_nested_additional_models()[0].model is not patched.get_nested_additional_models()[0].model
    second.model.to(torch.float32)  # the factory reads the file in its own dtype
    assert_papers(second, vectors)
    assert_papers(patched, vectors)


def test_experts_taken_away_are_missed(loras, model, vectors, tensors):
    patched = loras.load(model, tensors)
    for key in list(patched.additional_models):
        patched.remove_additional_models(key)
    with pytest.raises(ValueError, match="no longer with this model"):
        golden.evaluate(patched, vectors)
    assert_base(model, vectors)


def test_nothing_keeps_a_dropped_model_alive(loras, vectors, tensors):
    import gc
    import weakref

    import comfy.model_management

    model = vectors.load_model()
    alive = weakref.ref(model.model)
    patched = loras.load(model, tensors)
    assert_papers(patched, vectors)
    comfy.model_management.unload_all_models()
    del model, patched
    gc.collect()
    assert alive() is None


def test_the_golden_file_and_the_real_one_have_the_same_kinds_of_keys(tensors):
    """Every key of the published file is understood; its shapes make 57 routed layers and the paper's totals."""
    from icedit.moe_lora.checkpoint import parse_adapter

    shapes = json.loads((golden.FOLDER / "full_size_key_shapes.json").read_text())
    with torch.inference_mode():
        adapter = parse_adapter({key: torch.zeros(1).expand(shape) for key, shape in shapes.items()})
    assert (len(adapter.routed), len(adapter.plain)) == (57, 1085 - 57 * 9)
    assert round(adapter.routed_parameters / 1e6, 1) == 130.3
    assert round((adapter.routed_parameters + adapter.plain_parameters) / 1e6, 1) == 214.4
    assert load_file(golden.FOLDER / "top1" / "moe_lora.safetensors").keys() == tensors.keys()
