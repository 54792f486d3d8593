"""A step's gradients through the host's FLUX, beside plain autograd on a FLUX written to be differentiated."""

import pytest
import torch
from icedit.mini import flux
from icedit.mini.flux import Flux, MiniFluxShape, own_state, patchify, position_embedding
from icedit.training.adapter import TrainedExperts
from icedit.training.loss import velocity_loss
from icedit.training.settings import TrainingSettings
from support import golden, tiny_stack
from support import plain_adapters as adapters
from torch.multiprocessing.reductions import StorageWeakRef

pytestmark = pytest.mark.host

ROWS, COLUMNS, TOKENS, BALANCE = 2, 4, 6, 0.3


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def model(host):
    """The tiny stack's FLUX.1-Fill, one double and one single block, in float64."""
    model = host.load_model()
    with torch.inference_mode():
        model.model.diffusion_model.double()
        model.model.diffusion_model.dtype = torch.float64
    return model


@pytest.fixture
def batch():
    latents, noise = (random(3, 16, 2 * ROWS, 2 * COLUMNS, seed=seed) for seed in (1, 2))
    return {
        "latents": latents, "noise": noise, "times": torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64),
        "shown": random(3, 80, 2 * ROWS, 2 * COLUMNS, seed=3), "text": random(3, TOKENS, 32, seed=4),
        "pooled": random(3, 32, seed=5), "weights": random(3, 1, 2 * ROWS, 2 * COLUMNS, seed=6).abs(),
    }  # fmt: skip


def noisy(batch):
    return torch.lerp(batch["latents"], batch["noise"], batch["times"][:, None, None, None])


def new_adapter(model, **changes):
    from icedit.host.training.fill_model import new_adapter

    adapter = new_adapter(model, TrainingSettings(rank=4, experts=4, **changes)).double()
    with torch.no_grad():
        for index, weight in enumerate(adapter.parameters()):
            weight.add_(0.1 * random(*weight.shape, seed=100 + index))
    return adapter


def gradients(model, adapter, batch, checkpointing):
    """Through the host's FLUX, by the key of the tensor in the file."""
    from icedit.host.training.fill_model import FillVelocity

    velocity = FillVelocity(model, adapter, checkpointing)
    with velocity.training():
        found = velocity(noisy(batch), batch["times"], batch["shown"], batch["text"], batch["pooled"], 50.0)
        loss = velocity_loss(found.double(), batch["latents"], batch["noise"], batch["weights"])
        (loss + BALANCE * adapter.balance()).backward()
    return by_key(adapter)


def by_key(adapter):
    """An adapter's gradients, by the names of the published files."""
    values = {name: weight.detach().clone() for name, weight in adapter.named_parameters()}
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.copy_(weight.grad)
    named = {key: tensor.clone() for key, tensor in adapter.file_tensors().items()}
    adapter.load_state_dict(values)
    return named


def reference_gradients(model, adapter, batch):
    """The mini models' own FLUX, whose LoRA is added to the weights, with autograd alone."""
    network = model.model.diffusion_model
    own = Flux(MiniFluxShape(double_blocks=1, single_blocks=1, context=32, vector=32))
    # Newer hosts have another name for the scale of these norms.
    weights = {key.replace("_norm.weight", "_norm.scale"): w for key, w in network.state_dict().items()}
    own.load_state_dict(own_state(weights))
    adapters.add_lora(own, 4)
    adapters.add_experts(own, 4, 4)
    own.double()
    for layer in own.modules():
        if isinstance(layer, adapters.RoutedLinear):
            layer.router.data = layer.router.data.float()  # it routes in float32
    tensors = adapters.file_state(own)
    with torch.no_grad():
        for key, tensor in adapter.file_tensors().items():
            tensors[key].copy_(tensor)
    rotation = position_embedding(TOKENS, ROWS, COLUMNS).double()
    patches = patchify(torch.cat([noisy(batch), batch["shown"]], 1))
    guidance = torch.full((3,), 50.0, dtype=torch.float64)
    velocity = own(patches, rotation, batch["times"], batch["text"], batch["pooled"], guidance)
    wanted, weights = patchify(batch["noise"] - batch["latents"]), patchify(batch["weights"].expand(-1, 16, -1, -1))
    loss = ((velocity - wanted).square() * weights).mean()
    (loss + BALANCE * adapters.balance_loss(own)).backward()
    parts = [part for part in own.modules() if isinstance(part, adapters._PlainLoRA | adapters.RoutedLinear)]
    with torch.no_grad():
        for part in parts:
            for weight in part.parameters():
                if weight.requires_grad:
                    weight.copy_(weight.grad)
    return adapters.file_state(own)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
def test_a_backward_pass_leaves_no_inner_value_in_memory(model, batch, checkpointing, monkeypatch):
    inputs, forward = [], TrainedExperts.forward

    def watched(self, x, base):
        inputs.append(StorageWeakRef(x.untyped_storage()))
        return forward(self, x, base)

    monkeypatch.setattr(TrainedExperts, "forward", watched)
    adapter = new_adapter(model)
    gradients(model, adapter, batch, checkpointing)
    assert len(inputs) == len(adapter.experts) * (2 if checkpointing else 1)
    assert all(value.expired() for value in inputs)
    assert adapter.balance().item() > 0


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
def test_every_gradient_of_a_step_is_that_of_plain_autograd(model, batch, checkpointing, monkeypatch):
    from comfy.ldm.flux.layers import timestep_embedding

    # The host computes angles of up to 50 000 in float32; what is added to them is no part of what is tested here.
    monkeypatch.setattr(flux, "timestep_embedding", lambda t: timestep_embedding(t.float(), 256).double())
    adapter = new_adapter(model)
    found, wanted = gradients(model, adapter, batch, checkpointing), reference_gradients(model, adapter, batch)
    assert found.keys() == wanted.keys()
    wrong = {key: golden.difference(found[key], wanted[key]) for key in wanted}
    assert {key: value for key, value in wrong.items() if value > golden.TOLERANCE} == {}
    assert all(wanted[key].abs().max() > 0 for key in wanted)


def test_the_published_way_gives_the_router_nothing_to_learn_from(model, batch):
    learned = gradients(model, new_adapter(model), batch, False)
    published = new_adapter(model, router="as published")
    found = gradients_without_balance(model, published, batch)
    routers = [key for key in found if key.endswith("lora_route.weight")]
    assert routers and all(found[key].abs().max() == 0 for key in routers)
    assert all(learned[key].abs().max() > 0 for key in routers)


def gradients_without_balance(model, adapter, batch):
    from icedit.host.training.fill_model import FillVelocity

    velocity = FillVelocity(model, adapter, False)
    with velocity.training():
        found = velocity(noisy(batch), batch["times"], batch["shown"], batch["text"], batch["pooled"], 50.0)
        velocity_loss(found.double(), batch["latents"], batch["noise"], batch["weights"]).backward()
    return by_key(adapter)


def test_weights_that_are_cast_at_every_call_give_the_same_gradients(host, batch):
    """An fp8 base model beside one that holds the same numbers in float32."""
    single = {name: value.float() for name, value in batch.items()}
    cast, plain = host.load_model(dtype="fp8_e4m3fn"), host.load_model(dtype="fp8_e4m3fn")
    with torch.inference_mode():
        plain.model.diffusion_model.float()
    found, wanted = (gradients(model, new_adapter(model).float(), single, True) for model in (cast, plain))
    assert cast.model.diffusion_model.img_in.weight.dtype == torch.float8_e4m3fn
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def loaded(weights):
    import comfy.sd

    with torch.inference_mode():
        return comfy.sd.load_diffusion_model_state_dict(dict(weights), {})


def test_gradients_pass_the_hosts_own_quantized_weights(batch):
    """A scaled fp8 file beside the float file with the same numbers."""
    from comfy.quant_ops import QuantizedTensor

    plain, quantized = tiny_stack.flux(), {}
    for key, weight in plain.items():
        layer = key.removesuffix(".weight")
        if "_blocks." in key and key.endswith((".linear1.weight", ".linear2.weight", "qkv.weight", "mlp.2.weight")):
            scale = weight.abs().max() / 448
            quantized[key], quantized[f"{layer}.weight_scale"] = (weight / scale).to(torch.float8_e4m3fn), scale
            quantized[f"{layer}.comfy_quant"] = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
            plain[key] = quantized[key].float() * scale
        else:
            quantized[key] = weight
    models = loaded(quantized), loaded(plain)
    assert isinstance(models[0].model.diffusion_model.single_blocks[0].linear2.weight, QuantizedTensor)
    single = {name: value.float() for name, value in batch.items()}
    found, wanted = (gradients(model, new_adapter(model).float(), single, True) for model in models)
    alike = [torch.nn.functional.cosine_similarity(found[key].flatten(), wanted[key].flatten(), 0) for key in wanted]
    assert min(alike) > 0.98


class _Packed(torch.nn.Linear):
    """As of a pack with quantized files of its own: it unpacks its weight in its forward, and nothing else can."""

    def forward(self, x):
        with torch.no_grad():
            weight = self.weight * 2
        return torch.nn.functional.linear(x, weight.to(x.dtype), self.bias)


@pytest.mark.parametrize("kind", [_Packed, torch.nn.Identity])
def test_gradients_pass_linears_of_other_packs_where_they_can(kind):
    from icedit.host.training.differentiable import _any_backward

    layer = _Packed(5, 3)
    forward = layer.forward if kind is _Packed else lambda x: layer(x).detach()
    gradient, like = random(2, 3, seed=1).float(), torch.zeros(2, 5)
    if kind is _Packed:
        assert torch.allclose(_any_backward(forward)(gradient, like), gradient @ (2 * layer.weight))
    else:
        with pytest.raises(ValueError, match="No gradient passes"):
            _any_backward(forward)(gradient, like)
