"""One routed layer's two ways to its products, and when which is taken; CUDA's is emulated on the CPU."""

import pytest
import torch
from icedit.moe_lora.layer import (
    GATHERED,
    STRIP,
    RoutedLoRA,
    add_product,
    has_float32_product,
    project,
    routing_weights,
    split_router,
)
from support import golden, moe
from torch.utils._python_dispatch import TorchDispatchMode

EXPERTS, RANK, WIDTH = 5, 3, 96

MM = torch.mm


def multiply(a, b, *, out_dtype=None, **kwargs):
    """torch.mm with CUDA's `out_dtype`: half-precision tensors in, their float32 sums out."""
    if out_dtype is None or a.is_meta:
        return MM(a, b, **({"out_dtype": out_dtype} if out_dtype else {}), **kwargs)
    assert a.dtype == b.dtype == torch.bfloat16
    return MM(a.float(), b.float(), **kwargs)


def without_meta(a, b, *, out_dtype=None, **kwargs):
    """As in torch 2.8, where torch.compile meets an operator that it cannot trace."""
    if a.is_meta:
        raise NotImplementedError("aten::mm.dtype: attempted to run this operator with Meta tensors")
    return multiply(a, b, out_dtype=out_dtype, **kwargs)


def without_out_dtype(a, b):
    return MM(a, b)


@pytest.fixture
def layer():
    """Tokens, all A, the unrounded router, and the weight that holds both in bfloat16."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, STRIP + 7, WIDTH, generator=draw).bfloat16()
    down = torch.randn(EXPERTS * RANK, WIDTH, generator=draw).bfloat16()
    router = torch.randn(EXPERTS, WIDTH, generator=draw)
    return x, down, router, torch.cat([down, split_router(router).bfloat16()])


@pytest.mark.parametrize("float32_product", [True, False])
def test_both_products_are_those_of_float64(layer, monkeypatch, float32_product):
    """The router to float32's precision: more experts than parts, so that neither can stand in for the other."""
    monkeypatch.setattr(torch, "mm", multiply)
    x, down, router, weight = layer
    hidden, logits = project(x, weight, EXPERTS, float32_product)
    assert logits.dtype == torch.float32
    assert golden.difference(logits, x.double() @ router.double().T) <= golden.TOLERANCE
    rounding = golden.TOLERANCE if float32_product else torch.finfo(torch.bfloat16).eps
    assert golden.difference(hidden, x.double() @ down.double().T) <= rounding


@pytest.mark.host
@pytest.mark.parametrize("name", golden.NAMES)
def test_the_product_of_cuda_gives_the_papers_layer(monkeypatch, name):
    """The whole layer in bfloat16, beside experts computed in float64."""
    from icedit.host.moe_lora.experts import RoutedExperts
    from icedit.moe_lora.checkpoint import read_adapter

    monkeypatch.setattr(torch, "mm", multiply)
    vectors, tensors = golden.read(name), moe.golden_tensors(name)
    for weights in read_adapter(vectors.adapter_file).routed:
        layer = RoutedExperts([weights], torch.bfloat16, float32_product=True).layers[0]
        draw = torch.Generator().manual_seed(1)
        tokens = torch.randn(1, 200, weights.in_features, generator=draw).bfloat16()
        base = torch.zeros(1, 200, weights.out_features, dtype=torch.bfloat16)
        with torch.inference_mode():
            output = layer(tokens, base, 1.0, vectors.top_k).double()
        experts = moe.experts_of(tensors, weights.name)
        wanted = moe.routed_part(tokens, *experts, vectors.top_k)
        error = (output - wanted).norm(dim=-1) / wanted.norm(dim=-1)
        # The hidden vector and the result are rounded; a token with another expert is off by about 1.
        assert (error <= 4 * torch.finfo(torch.bfloat16).eps).double().mean() >= 0.99


class Computing(TorchDispatchMode):
    """Counts the operators that compute something: each starts a kernel or more."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.count += not func.is_view
        return result


def test_a_gpu_has_few_operators_to_start_for_a_layer():
    """Each start took 25 µs of a processor beside a fast GPU: FLUX's 57 layers came to a tenth of an evaluation."""

    class Down(torch.nn.Module):
        def forward(self, x, experts, top_k):
            weight = torch.empty(experts * (RANK + 3), WIDTH, dtype=torch.bfloat16, device="meta")
            return project(x, weight, experts, float32_product=True, top_k=top_k)

    class Up(torch.nn.Module):
        def forward(self, hidden, base):
            return add_product(base, hidden, torch.empty(WIDTH, EXPERTS * RANK, dtype=torch.bfloat16, device="meta"))

    layer = RoutedLoRA(Down(), Up(), EXPERTS, RANK, 0.5)
    x, base = (torch.empty(1, 16, WIDTH, dtype=torch.bfloat16, device="meta") for _ in range(2))
    with Computing() as computing:
        layer(x, base)
    # The two weights are made here.
    assert 0 < computing.count - 2 <= 8


@pytest.mark.parametrize("top_k", [1, 2])
def test_scaled_weights_are_the_weights_scaled(top_k):
    logits = torch.randn(7, EXPERTS, generator=torch.Generator().manual_seed(0))
    weights = routing_weights(logits, top_k)
    assert golden.difference(weights.sum(-1), torch.ones(7)) <= golden.TOLERANCE
    assert (weights.count_nonzero(-1) == top_k).all()
    assert golden.difference(routing_weights(logits, top_k, 0.3), 0.3 * weights) <= golden.TOLERANCE


class TestWhetherThereIsOne:
    @pytest.fixture
    def cuda(self, monkeypatch):
        """A CUDA device whose tensors are on the CPU; returns a function that replaces torch.mm."""
        ones = torch.ones

        def on_cpu(*size, device, **kwargs):
            return ones(*size, device="meta" if device.type == "meta" else "cpu", **kwargs)

        monkeypatch.setattr(torch, "ones", on_cpu)
        return lambda function: monkeypatch.setattr(torch, "mm", function)

    def test_only_where_torch_compile_can_trace_it_too(self, cuda):
        for function, expected in ((multiply, True), (without_meta, False), (without_out_dtype, False)):
            cuda(function)
            assert has_float32_product(torch.device("cuda")) is expected

    def test_this_torch_can_trace_it(self):
        """torch.compile traces with the meta device; where that has the product, a compiled one works."""
        sample = torch.ones(16, 16, dtype=torch.bfloat16, device="meta")
        try:
            available = MM(sample, sample, out_dtype=torch.float32).dtype == torch.float32
        except (TypeError, RuntimeError):
            available = False

        def product(a, b):
            return torch.mm(a, b, out_dtype=torch.float32)

        try:
            traced = torch.compile(product, backend="eager", fullgraph=True)(sample, sample).dtype == torch.float32
        except Exception:
            traced = False
        assert traced == available

    def test_other_devices_have_none(self, cuda):
        cuda(multiply)
        assert not any(has_float32_product(torch.device(kind)) for kind in ("cpu", "mps", "xpu"))

    @pytest.mark.parametrize(
        "error",
        [torch.cuda.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")],
    )
    def test_a_failure_for_want_of_memory_is_not_remembered(self, cuda, error):
        def fail(a, b, **kwargs):
            if a.is_meta:
                return multiply(a, b, **kwargs)
            raise error

        cuda(fail)
        assert not has_float32_product(torch.device("cuda"))
        cuda(multiply)
        assert has_float32_product(torch.device("cuda"))

    @pytest.mark.host
    def test_experts_made_on_a_full_device_are_made_again(self, monkeypatch):
        """The experts that a loader keeps are made anew once the device has the product."""
        from icedit.host.moe_lora import experts
        from icedit.moe_lora.checkpoint import read_adapter

        results = [False, False, True, True]
        monkeypatch.setattr(experts, "has_float32_product", lambda _: results.pop(0))
        vectors = golden.read("top1")
        model, held = vectors.load_model(torch.bfloat16), experts.HeldAdapter(read_adapter(vectors.adapter_file))
        plain = held.experts_for(model).model
        assert held.experts_for(model).model is plain
        results.insert(0, True)
        product = held.experts_for(model).model
        assert not plain.float32_product
        assert product.float32_product
        results.clear()
        assert held.experts_for(model).model is product


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that an operation makes for itself."""

    nbytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        inputs = {tensor.untyped_storage()._cdata for tensor in args if isinstance(tensor, torch.Tensor)}
        result = function(*args, **(kwargs or {}))
        for made in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(made, torch.Tensor) and made.untyped_storage()._cdata not in inputs:
                self.nbytes = max(self.nbytes, made.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_on_a_cpu_no_copy_of_all_tokens_is_made(gathering, dtype):
    """Neither one in float32 for the router nor one sorted by expert, also where all tokens keep the same one."""
    tokens, width = 64 * STRIP, 256
    x = torch.rand(1, tokens, width).to(dtype)
    router = torch.zeros(EXPERTS, width)
    router[1] = 1.0
    weight = torch.cat([torch.randn(EXPERTS * RANK, width), split_router(router)]).to(dtype)
    with torch.inference_mode(), Largest() as largest:
        _, logits = project(x, weight, EXPERTS, top_k=1)
    assert logits.shape == (1, tokens, EXPERTS)
    assert largest.nbytes < x.nbytes / 4


@pytest.fixture
def gathering(monkeypatch):
    """An expert's tokens are gathered however few there are."""
    monkeypatch.setattr("icedit.moe_lora.layer.GATHERING_PAYS", 0)


@pytest.mark.usefixtures("gathering")
class TestOnlyTheKeptExpertsAreComputed:
    """On a CPU, where they are less than half."""

    @pytest.fixture
    def layer(self, layer):
        return tuple(tensor.float() for tensor in layer)

    @pytest.mark.parametrize("top_k", [1, 2])
    def test_their_hidden_vectors_are_those_of_float64(self, layer, top_k):
        x, down, _, weight = layer
        hidden, logits = project(x, weight, EXPERTS, top_k=top_k)
        kept = torch.zeros_like(logits).scatter(-1, logits.topk(top_k).indices, 1.0)
        wanted = (x.double() @ down.double().T).unflatten(-1, (EXPERTS, RANK)) * kept.unsqueeze(-1)
        assert golden.difference(hidden, wanted.flatten(-2)) <= golden.TOLERANCE
        assert ((hidden.unflatten(-1, (EXPERTS, RANK)) != 0).any(-1).sum(-1) == top_k).all()

    @pytest.mark.parametrize("alone", [0, 4])
    def test_all_tokens_may_keep_one_expert(self, layer, alone):
        """More than are gathered at a time; the other experts have none."""
        _, down, router, _ = layer
        router = torch.zeros_like(router)
        router[alone] = 1.0
        x = torch.rand(2, GATHERED + 3, WIDTH, generator=torch.Generator().manual_seed(0))
        hidden = project(x, torch.cat([down, split_router(router)]), EXPERTS, top_k=1)[0]
        hidden = hidden.unflatten(-1, (EXPERTS, RANK))
        wanted = (x.double() @ down.double().T).unflatten(-1, (EXPERTS, RANK))[..., alone, :]
        assert golden.difference(hidden[..., alone, :], wanted) <= golden.TOLERANCE
        assert hidden.count_nonzero() == hidden[..., alone, :].count_nonzero()

    @pytest.mark.parametrize("top_k", [3, 5])
    def test_from_half_of_them_on_all_are(self, layer, top_k):
        x, _, _, weight = layer
        assert project(x, weight, EXPERTS, top_k=top_k)[0].equal(project(x, weight, EXPERTS)[0])

    def test_all_are_for_few_tokens_and_in_bfloat16(self, layer, monkeypatch):
        x, _, _, weight = layer
        rounded = (x.bfloat16(), weight.bfloat16(), EXPERTS)
        assert project(*rounded, top_k=1)[0].equal(project(*rounded)[0])
        monkeypatch.setattr("icedit.moe_lora.layer.GATHERING_PAYS", x.numel() + 1)
        assert project(x, weight, EXPERTS, top_k=1)[0].equal(project(x, weight, EXPERTS)[0])

    def test_compiled_all_are_in_one_graph(self, layer):
        """How many tokens an expert has is known only while it runs; a compiler would stop and start there."""
        x, _, _, weight = layer
        compiled = torch.compile(project, backend="eager", fullgraph=True)
        assert compiled(x, weight, EXPERTS, top_k=1)[0].equal(project(x, weight, EXPERTS)[0])


@pytest.mark.parametrize("top_k", [None, 1])
@pytest.mark.parametrize("shape", [(), (1,), (3, 0), (2, 3, 5)])
def test_any_number_of_tokens(layer, gathering, shape, top_k):
    x, _, router, weight = (tensor.float() for tensor in layer)
    some = x.new_ones(*shape, WIDTH)
    hidden, logits = project(some, weight, EXPERTS, top_k=top_k)
    assert hidden.shape == (*shape, EXPERTS * RANK)
    assert logits.shape == (*shape, EXPERTS)
    if some.numel():
        assert golden.difference(logits, some.double() @ router.double().T) <= golden.TOLERANCE
