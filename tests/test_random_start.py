"""Whether a router was trained shows in its weights: the shipped mini file's was; drawn ones were not."""

import itertools
from pathlib import Path

import pytest
import torch
from icedit.moe_lora.checkpoint import read_adapter
from icedit.moe_lora.random_start import router_start

MINI = Path(__file__).resolve().parent.parent / "mini" / "models" / "loras" / "mini_moe_lora.safetensors"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
DECAY = 0.37


def drawn(kind, draw, inputs=512, experts=4):
    """A router as a Linear starts, or as mini's did, after weight decay alone."""
    if kind == "uniform":
        return (torch.rand(experts, inputs, generator=draw) * 2 - 1) * inputs**-0.5 * DECAY
    return torch.randn(experts, inputs, generator=draw) * inputs**-0.5 * DECAY


@pytest.fixture(scope="module")
def mini():
    return read_adapter(MINI)


def test_the_mini_files_routers_have_learned(mini):
    assert mini.start.verdict == "trained"
    assert "were trained" in mini.start.sentence()
    assert mini.start.rows > 10


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_random_starts_are_seen_as_such(kind, mini):
    """Of the sizes of the mini file: the same test that finds it trained finds none of these."""
    draw = torch.Generator().manual_seed(4)
    for _, dtype in itertools.product(range(20), DTYPES):
        start = router_start([drawn(kind, draw, layer.in_features).to(dtype) for layer in mini.routed])
        assert start.verdict == "random start"
        assert kind in start.sentence()


def test_a_gradient_that_moves_a_router_by_a_fifth_is_seen_at_flux_size():
    """The logits' gradients of a softmax add up to zero over the experts."""
    draw = torch.Generator().manual_seed(5)
    routers = [drawn("uniform", draw, inputs) for inputs in [12288] * 19 + [15360] * 38]
    moves = [torch.randn(router.shape, generator=draw) for router in routers]
    moves = [move - move.mean(0) for move in moves]
    moved = [router + 0.2 * router.norm() / move.norm() * move for router, move in zip(routers, moves, strict=True)]
    assert router_start(routers).verdict == "random start"
    assert router_start(moved).verdict == "trained"


@pytest.mark.parametrize(
    "routers",
    [
        pytest.param([], id="none"),
        pytest.param([torch.randn(4, 8)], id="few inputs"),
        pytest.param([torch.randn(1, 512)], id="one expert"),
        pytest.param([torch.zeros(4, 512)], id="zeros"),
        pytest.param([torch.randn(4, 512, generator=torch.Generator().manual_seed(1)).sign()], id="only signs"),
    ],
)
def test_what_cannot_be_told_is_not_claimed(routers):
    assert router_start(routers).verdict == "unknown"


@pytest.mark.host
def test_the_loader_says_it(host, tiny_models):
    from support import moe

    loras = moe.Loras(host, tiny_models / "loras")
    tensors, draw = moe.golden_tensors("top1"), torch.Generator().manual_seed(6)
    for key, tensor in tensors.items():
        if "lora_route" in key:
            tensors[key] = drawn("uniform", draw, tensor.shape[1], len(tensor))
    model = moe.golden.read("top1").load_model()
    assert "look like their random start" in loras.report(model, tensors)
