"""The adapter under torch.compile, as the host's node puts it on a model."""

import pytest
import torch
from support import golden, moe

pytestmark = pytest.mark.host


@pytest.fixture
def model(vectors):
    return vectors.load_model()


@pytest.fixture
def compiled(host):
    """The host's TorchCompileModel, with nothing compiled before."""
    torch._dynamo.reset()
    return lambda model: host.call("TorchCompileModel", model=model, backend="eager")[0]


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def assert_papers(model, vectors):
    result = golden.evaluate(model, vectors)
    assert golden.difference(result, vectors.expected["output_moe_lora"]) <= golden.TOLERANCE


def assert_base(model, vectors):
    assert moe.untouched(model)
    assert golden.difference(golden.evaluate(model, vectors), vectors.expected["output_base"]) <= golden.TOLERANCE


@pytest.mark.parametrize("order", ["before", "after"])
def test_compiled_once_and_right(loras, model, vectors, tensors, compiled, order):
    """Not again for the next step; the bare model beside it stays bare."""
    patched = compiled(loras.load(model, tensors)) if order == "before" else loras.load(compiled(model), tensors)
    assert_papers(patched, vectors)
    before = graphs()
    assert before > 0
    for _ in range(3):
        assert_papers(patched, vectors)
    assert graphs() == before
    assert_base(model, vectors)


def test_every_module_that_compiles_a_model_gets_the_same_functions(loras, model, vectors, tensors):
    """Nodes that compile wrap the model in a new module each time they run; with new functions as well, torch
    would compile everything again."""
    from comfy.patcher_extension import WrappersMP

    diffusion_model = model.model.diffusion_model
    linear, seen = diffusion_model.single_blocks[1].linear2, []

    def look(executor, x, *_, **__):
        seen.append((executor.class_obj.diffusion_model, linear.__dict__["forward"]))
        return x

    adapted = loras.load(model, tensors)
    for _ in range(2):
        patched = adapted.clone()
        patched.add_object_patch("diffusion_model", torch.compile(diffusion_model, backend="eager"))
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
        golden.evaluate(patched, vectors)
    (first, before), (second, after) = seen
    assert first._orig_mod is second._orig_mod is diffusion_model
    assert first is not second
    assert before is after


def test_inductor(loras, model, vectors, tensors):
    """What TorchCompileModel does by default, here to one block: compiling all takes minutes."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from torch._inductor import config, cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        pytest.skip("no C++ compiler, which torch.compile's inductor needs on a CPU")
    patched, block = loras.load(model, tensors), "diffusion_model.single_blocks.1"
    torch._dynamo.reset()
    set_torch_compile_wrapper(patched, "inductor", keys=[block])
    with config.patch(compile_threads=1):
        assert_papers(patched, vectors)
    assert graphs() > 0
    assert_base(model, vectors)
