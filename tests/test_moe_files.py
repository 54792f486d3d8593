"""What MoELoRALoader reads: names, dtypes, ranks, alpha, ordinary LoRA; and what its strengths mean."""

import pytest
import torch
from support import golden, moe

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def model(vectors):
    return vectors.load_model()


def renamed(tensors, old, new):
    return {key.replace(old, new): tensor for key, tensor in tensors.items()}


def assert_papers(model, vectors, tolerance=golden.TOLERANCE):
    result = golden.evaluate(model, vectors)
    assert golden.difference(result, vectors.expected["output_moe_lora"]) <= tolerance


NAMES = {
    "base_model.model": ("transformer.", "base_model.model."),
    "base_model.model.transformer": ("transformer.", "base_model.model.transformer."),
    "diffusion_model": ("transformer.", "diffusion_model."),
    "no prefix": ("transformer.", ""),
    "default adapter": (".weight", ".default.weight"),
}


@pytest.mark.parametrize("names", NAMES)
def test_names_of_other_tools_mean_the_same(loras, model, vectors, tensors, names):
    assert_papers(loras.load(model, renamed(tensors, *NAMES[names])), vectors)


def test_default_before_the_expert(loras, model, vectors, tensors):
    experts = renamed(
        renamed(tensors, "lora_A.expert", "lora_A.default.expert"), "lora_B.expert", "lora_B.default.expert"
    )
    assert_papers(loras.load(model, experts), vectors)


def test_the_hosts_own_layer_names(loras, model, vectors, tensors):
    plain, routed = moe.split(tensors)
    for diffusers, own in moe.LAYERS.items():
        for block in range(2):
            routed = renamed(routed, f"transformer.{diffusers.format(block)}.", f"diffusion_model.{own.format(block)}.")
    assert_papers(loras.load(model, plain | routed), vectors)


def test_alpha_scales_ordinary_and_routed_layers(loras, model, vectors, tensors):
    """Alpha at twice the rank is what halving every B makes up for."""
    halved = {key: tensor / 2 if ".lora_B." in key else tensor for key, tensor in tensors.items()}
    bases = {key.partition(".lora_")[0] for key in tensors}
    alphas = {f"{base}.alpha": torch.tensor(16.0) for base in bases}
    assert_papers(loras.load(model, halved | alphas), vectors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files(loras, model, vectors, tensors, dtype):
    stored = {key: tensor.to(dtype) for key, tensor in tensors.items()}
    patched = loras.load(model, stored)
    reference = loras.load(model, {key: tensor.float() for key, tensor in stored.items()})
    wanted = golden.evaluate(reference, vectors)
    assert golden.difference(golden.evaluate(patched, vectors), wanted) <= golden.TOLERANCE
    assert_papers(patched, vectors, tolerance=0.05)


def test_ranks_and_experts_may_differ_by_layer(loras, model, vectors, tensors):
    plain, routed = moe.split(tensors)
    draw = torch.Generator().manual_seed(3)
    for block, (rank, experts) in enumerate([(3, 2), (5, 7)]):
        name = f"transformer.single_transformer_blocks.{block}.proj_out.lora_"
        routed = {key: tensor for key, tensor in routed.items() if not key.startswith(name)}
        routed[f"{name}route.weight"] = torch.randn(experts, 640, generator=draw)
        for expert in range(experts):
            routed[f"{name}A.expert_{expert}.weight"] = torch.randn(rank, 640, generator=draw) / 25
            routed[f"{name}B.expert_{expert}.weight"] = torch.randn(128, rank, generator=draw)
    patched = loras.load(model, plain | routed, top_k=2)
    with moe.plain_experts(model, (routed, 1.0, 2)):
        reference = golden.evaluate(loras.plain(model, plain), vectors)
    assert golden.difference(golden.evaluate(patched, vectors), reference) <= golden.TOLERANCE
    report = loras.report(model, plain | routed, top_k=2)
    assert "2 to 7 experts of rank 3 to 8, top_k 2" in report


STRENGTHS = [(0.5, 1.0, 1), (1.0, 0.25, 1), (-1.0, 1.0, 1), (2.0, -0.5, 3), (1.0, 0.0, 1), (1.0, 1.0, 4)]


@pytest.mark.parametrize(("strength", "expert_strength", "top_k"), STRENGTHS)
def test_strengths_and_top_k(loras, model, vectors, tensors, strength, expert_strength, top_k):
    plain, routed = moe.split(tensors)
    patched = loras.load(model, tensors, strength, expert_strength=expert_strength, top_k=top_k)
    with moe.plain_experts(model, (routed, strength * expert_strength, top_k)):
        reference = golden.evaluate(loras.plain(model, plain, strength), vectors)
    base = golden.evaluate(model, vectors)
    result = golden.evaluate(patched, vectors)
    assert golden.difference(result, reference) <= golden.TOLERANCE
    assert golden.difference(result, base) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_strength_0_is_the_base_model_bit_for_bit(loras, vectors, tensors, dtype):
    model = vectors.load_model(dtype)
    base = golden.evaluate(model, vectors)
    patched = loras.load(model, tensors, 0.0)
    assert golden.evaluate(patched, vectors).equal(base)
    assert "model as it came in" in loras.report(model, tensors, 0.0)


def test_expert_strength_0_leaves_the_ordinary_layers_bit_for_bit(loras, model, vectors, tensors):
    plain, _ = moe.split(tensors)
    patched = golden.evaluate(loras.load(model, tensors, expert_strength=0.0), vectors)
    assert patched.equal(golden.evaluate(loras.plain(model, plain), vectors))


def test_two_adapters_in_a_chain_with_ordinary_loras_around_them(loras, model, vectors, tensors):
    """The second MoE-LoRA routes differently and at another strength; ordinary LoRAs patch the same weights."""
    from support.tiny_stack import FluxShape, lora, moe_lora

    shape = FluxShape(hidden=128, double_blocks=2, single_blocks=2)
    other = moe_lora(shape, rank=2, experts=3, seed=5)
    before, after = lora(shape, rank=3, seed=6), lora(shape, rank=2, seed=7)
    for draw, loose in enumerate((before, after)):
        generator = torch.Generator().manual_seed(draw)
        loose["transformer.single_transformer_blocks.1.proj_out.lora_A.weight"] = (
            torch.randn(2, 640, generator=generator) / 25
        )
        loose["transformer.single_transformer_blocks.1.proj_out.lora_B.weight"] = torch.randn(
            128, 2, generator=generator
        )
    (plain, routed), (other_plain, other_routed) = moe.split(tensors), moe.split(other)

    patched = loras.plain(loras.load(loras.plain(model, before, 0.3), tensors), after, -0.2)
    patched = loras.load(patched, other, 0.5, top_k=2)
    reference = loras.plain(
        loras.plain(loras.plain(loras.plain(model, before, 0.3), plain), after, -0.2), other_plain, 0.5
    )
    with moe.plain_experts(model, (routed, 1.0, 1), (other_routed, 0.5, 2)):
        wanted = golden.evaluate(reference, vectors)
    assert golden.difference(golden.evaluate(patched, vectors), wanted) <= golden.TOLERANCE


def test_the_same_file_twice_counts_twice(loras, model, vectors, tensors):
    plain, routed = moe.split(tensors)
    name = loras.save(tensors)
    patched = loras.load(loras.load(model, name, 0.5), name, 0.25)
    with moe.plain_experts(model, (routed, 0.75, 1)):
        wanted = golden.evaluate(loras.plain(loras.plain(model, plain, 0.5), plain, 0.25), vectors)
    assert golden.difference(golden.evaluate(patched, vectors), wanted) <= golden.TOLERANCE


def test_an_ordinary_file_is_loaded_as_the_host_does(loras, model, vectors, tensors):
    plain, _ = moe.split(tensors)
    ours, hosts = loras.load(model, plain, 0.7), loras.plain(model, plain, 0.7)
    assert golden.evaluate(ours, vectors).equal(golden.evaluate(hosts, vectors))
    report = loras.report(model, plain, 0.7)
    assert "ordinary LoRA" in report
    assert "21 layers" in report


def test_an_ordinary_file_in_kohyas_names(loras, model, vectors):
    draw = torch.Generator().manual_seed(2)
    kohya = {}
    for name in ("lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_single_blocks_1_linear2"):
        outputs, inputs = (384, 128) if "qkv" in name else (128, 640)
        kohya[f"{name}.lora_down.weight"] = torch.randn(4, inputs, generator=draw) / 20
        kohya[f"{name}.lora_up.weight"] = torch.randn(outputs, 4, generator=draw) / 4
        kohya[f"{name}.alpha"] = torch.tensor(2.0)
    ours, hosts = loras.load(model, kohya), loras.plain(model, kohya)
    assert golden.evaluate(ours, vectors).equal(golden.evaluate(hosts, vectors))


def test_the_report_says_what_was_applied(loras, model, tensors):
    report = loras.report(model, tensors, 0.8, expert_strength=0.5, top_k=2)
    routed = sum(tensor.numel() for key, tensor in tensors.items() if moe.is_routed(key))
    total = sum(tensor.numel() for tensor in tensors.values())
    # In memory a router is three, and the model computes in float32.
    memory = 4 * (routed + 2 * sum(tensor.numel() for key, tensor in tensors.items() if "route" in key))
    for words in (
        "78 tensors", "4 routed layers: 4 experts of rank 8, top_k 2", f"{memory / 1e6:.1f} MB", "21 ordinary",
        f"{total / 1e6:.1f} M", f"{routed / 1e6:.1f} M", "strength 0.8, expert_strength 0.5",
    ):  # fmt: skip
        assert words in report
    assert len(report.splitlines()) <= 5


def test_a_changed_strength_reads_no_file_and_shares_the_experts(loras, vectors, model, tensors, monkeypatch):
    name = loras.save(tensors)
    first = loras.load(model, name)

    def refuse(*args, **kwargs):
        raise AssertionError("the file is read again")

    monkeypatch.setattr(loras.host.module("moe_lora.files"), "safe_open", refuse)
    with pytest.raises(AssertionError, match="read again"):
        loras.load(model, tensors)
    second = loras.load(model, name, 0.5, expert_strength=0.5)
    assert second.model is first.model
    experts = [patched.get_nested_additional_models()[0].model for patched in (first, second)]
    assert experts[0] is experts[1]
    assert not golden.evaluate(first, vectors).equal(golden.evaluate(second, vectors))


def test_a_replaced_file_is_read_again(loras, vectors, model, tensors):
    from safetensors.torch import save_file

    name = loras.save(tensors)
    node = __import__("nodes").NODE_CLASS_MAPPINGS["MoELoRALoader"]
    before, seen = loras.load(model, name), node.fingerprint_inputs(lora_name=name)
    replacement = {key: tensor * 0.5 if ".lora_B." in key else tensor for key, tensor in tensors.items()}
    save_file(replacement, loras.folder / "replacement.tmp")
    (loras.folder / "replacement.tmp").replace(loras.folder / name)
    assert node.fingerprint_inputs(lora_name=name) != seen
    assert not golden.evaluate(loras.load(model, name), vectors).equal(golden.evaluate(before, vectors))


def test_only_the_last_files_are_kept(loras, model, tensors):
    adapters = loras.host.module("host.moe_lora.files")
    for _ in range(5):
        loras.load(model, tensors)
    assert len(adapters._held) == adapters.KEPT


def test_the_list_offers_safetensors_files_only(loras):
    from icedit.host.moe_lora import files as adapters

    (loras.folder / "old.pt").write_bytes(b"")
    name = loras.save({"a": torch.ones(1)})
    assert name in adapters.adapter_names()
    assert "old.pt" not in adapters.adapter_names()
