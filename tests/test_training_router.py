"""The router in training: it computes in float32 on tokens that are not."""

import pytest
import torch
from icedit.training.adapter import PreciseLinear, TrainedExperts
from icedit.training.settings import TrainingSettings
from icedit.training.targets import TargetLayer
from support import golden


@pytest.fixture
def layer():
    target = TargetLayer("layer", (("layer", 8),), 64, True)
    layer = TrainedExperts(target, TrainingSettings(rank=2, experts=4), torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.up.normal_(generator=torch.Generator().manual_seed(1))
    return layer


@pytest.fixture
def x():
    x = torch.randn(2, 50, 64, generator=torch.Generator().manual_seed(2)).bfloat16()
    return x.requires_grad_()


def test_no_copy_of_its_tokens_is_kept(layer, x):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda kept: kept):
        layer(x, torch.zeros(2, 50, 8, dtype=torch.bfloat16))
    copies = [tensor for tensor in kept if tensor.numel() >= x.numel() and tensor.data_ptr() != x.data_ptr()]
    assert kept
    assert not copies


def test_its_gradients_are_those_of_autograd(layer, x):
    found = PreciseLinear.apply(x, layer.router)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(3))
    (found * weights).sum().backward()
    own = x.detach().clone().requires_grad_(), layer.router.detach().clone().requires_grad_()
    wanted = torch.nn.functional.linear(own[0].float(), own[1])
    (wanted * weights).sum().backward()
    assert found.equal(wanted)
    assert x.grad.dtype == torch.bfloat16
    for gradient, reference in zip((x.grad, layer.router.grad), (own[0].grad, own[1].grad), strict=True):
        assert golden.difference(gradient.float(), reference.float()) <= 1e-5
