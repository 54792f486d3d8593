"""Reuse Known Tokens beside what else changes a model's calls: the result is right, or the calls run as without it."""

import pytest
import torch
from support.known_tokens import EXACT, STEPS, off, pairs_off
from support.tiny_edit import conditioning, edit_inputs, sources

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("shows_values")]

CACHE = {"reuse_threshold": 0.6, "start_percent": 0.1, "end_percent": 0.95, "verbose": False}
TOKENS = 8
"""Of the picture; 8 more of text."""


def with_extra(given, **extra):
    """The positive conditioning with more in it."""
    return {"positive": [[tokens, values | extra] for tokens, values in given["positive"]]}


def residuals():
    """A ControlNet that gives fixed residuals for the picture's tokens."""
    from comfy.controlnet import ControlBase

    class Residuals(ControlBase):
        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            draw = torch.Generator().manual_seed(1)
            return {name: [torch.randn(len(x_noisy), TOKENS, 128, generator=draw)] for name in ("input", "output")}

        def copy(self):
            return Residuals()

        def cleanup(self):
            pass

        def get_models(self):
            return []

    return Residuals()


def test_a_controlnets_residuals(twice, reusing, edit):
    controlled = with_extra(edit, control=residuals(), control_apply_to_uncond=True)
    found, plain = twice(reusing(first_steps=3), **controlled), twice(reusing(first_steps=3))
    assert pairs_off(found) < EXACT
    assert off(found[0], plain[0]) > 100 * EXACT


def test_an_attention_mask(twice, reusing, edit):
    draw = torch.Generator().manual_seed(1)
    mask = torch.randn(1, 16, 16, generator=draw)
    masked = with_extra(edit, attention_mask=mask, attention_mask_img_shape=(2, 4))
    found, plain = twice(reusing(first_steps=3), **masked), twice(reusing(first_steps=3))
    assert pairs_off(found) < EXACT
    assert off(found[0], plain[0]) > 100 * EXACT


def test_a_moe_lora(host, twice, reusing, models):
    adapted = host.call("MoELoRALoader", model=models["model"], lora_name="icedit_moe_lora.safetensors", strength=1.0)[
        0
    ]
    found = twice(reusing(adapted, first_steps=3))
    assert pairs_off(found) < EXACT
    after = host.call(
        "MoELoRALoader", model=reusing(first_steps=3), lora_name="icedit_moe_lora.safetensors", strength=1.0
    )[0]
    assert off(twice(after)[1], found[1]) < EXACT


@pytest.mark.parametrize("kind", ["attn1_patch", "attn1_output_patch", "post_input", "dit"])
def test_other_nodes_patches(sampled, reusing, models, said, kind):
    """They see tokens by their place."""

    def scaled(model):
        clone = model.clone()
        if kind == "attn1_patch":
            clone.set_model_attn1_patch(lambda *qkv, **_: {"v": 2 * qkv[2]})
        elif kind == "attn1_output_patch":
            clone.set_model_attn1_output_patch(lambda attention, _: 2 * attention)
        elif kind == "post_input":
            clone.set_model_patch(lambda given: {**given, "img": 2 * given["img"]}, "post_input")
        else:
            clone.set_model_patch_replace(
                lambda args, extra: {"img": 2 * extra["original_block"](args)["img"]}, "dit", "single_block", 0
            )
        return clone

    plain = sampled(scaled(models["model"]))
    for model in (scaled(reusing()), reusing(scaled(models["model"]))):
        assert torch.equal(sampled(model), plain)
    assert not torch.equal(plain, sampled())
    assert f"{STEPS} evaluations ran as without this node" in said[0] and kind in said[0]


@pytest.mark.parametrize("node", ["EasyCache", "LazyCache"])
def test_the_hosts_step_caches(host, sampled, reusing, models, said, node):
    plain = sampled(steps=12)
    (cached,) = host.call(node, model=models["model"], **CACHE)
    alone = sampled(cached, steps=12)
    assert not torch.equal(alone, plain)
    for model in (reusing(cached), host.call(node, model=reusing(), **CACHE)[0]):
        both = sampled(model, steps=12)
        assert off(both, plain) < off(alone, plain) + 0.1
    assert all(" 0 short ones" not in note for note in said)
    if node == "EasyCache":
        assert all(" 0 left out" not in note for note in said)


def test_step_caches_of_other_packs(sampled, reusing, models, said):
    """Such as a TeaCache, which puts its own forward in the place of FLUX's."""
    model = models["model"].clone()
    model.model_options["transformer_options"]["rel_l1_thresh"] = 0.4
    assert torch.equal(sampled(reusing(model)), sampled())
    assert "Every step runs as without this node" in said[0] and "The model carries a TeaCache." in said[0]


def test_code_in_the_place_of_fluxs_is_noticed(sampled, reusing, models, monkeypatch):
    network = models["model"].model.diffusion_model
    forward = network.forward_orig

    def without_post_input(*args, transformer_options, **kwargs):
        patches = {k: v for k, v in transformer_options.get("patches", {}).items() if k != "post_input"}
        return forward(*args, transformer_options=transformer_options | {"patches": patches}, **kwargs)

    monkeypatch.setattr(network, "forward_orig", without_post_input)
    with pytest.raises(ValueError, match="put code of its own in the place of FLUX's"):
        sampled(reusing())


def test_in_context_inversion(host, sampled, reusing, said):
    """While it puts its values in, everything is computed; after that tokens are left out."""
    panels = torch.cat([sources(), sources()], dim=2)
    base = {"model": host.load_model(name="flux1-dev.safetensors"), "vae": host.load_vae()}
    settings = {
        "source_prompt": conditioning(1), "diptych": panels, "steps": 8, "scheduler": "simple", "denoise": 1.0,
        "inversion_guidance": 1.0, "corrections": 2, "step_share": 0.5, "block_share": 1.0, "memory_limit": 4.0,
        "check": False,
    }  # fmt: skip
    inverted, latent, _ = host.call("InContextInversion", **base, **settings)
    mask = torch.zeros(1, 32, 64)
    mask[..., 32:] = 1
    given = {"latent_image": latent | {"noise_mask": mask}, "positive": conditioning(7), "steps": 8}
    plain = sampled(inverted, **given)
    assert 0 < off(sampled(reusing(inverted), **given), plain) < 0.1
    assert "4 evaluations ran as without this node" in said[0] and " 0 short ones" not in said[0]
    after, *_ = host.call("InContextInversion", **base | {"model": reusing(base["model"])}, **settings)
    assert torch.equal(sampled(after, **given), sampled(reusing(inverted), **given))


def test_differential_diffusion(host, models, sampled, reusing, said):
    """Its mask changes from step to step."""
    batch = edit_inputs(host, models["vae"])
    mask = torch.linspace(0, 1, 64).expand(1, 32, 64)
    soft = {"latent_image": batch["latent_image"] | {"noise_mask": mask.clone()}}
    soft["latent_image"]["noise_mask"][..., :32] = 0
    (model,) = host.call("DifferentialDiffusion", model=models["model"], strength=1.0)
    plain = sampled(model, **soft)
    assert 0 < off(sampled(reusing(model), **soft), plain) < 0.1
    assert " 0 short ones" not in said[0]


def test_a_mask_that_opens_what_it_kept(host, models, sampled, reusing, said):
    model = models["model"].clone()
    model.set_model_denoise_mask_function(
        lambda sigma, denoise_mask, **_: torch.ones_like(denoise_mask) if sigma[0] < 0.8 else denoise_mask
    )
    plain = sampled(model)
    reused = sampled(reusing(model, first_steps=1, refresh_every=100))
    assert 0 < off(reused, plain) < 0.1
    left = float((reused - plain)[..., :4].norm() / plain[..., :4].norm())
    assert left < 0.1


class TestReferences:
    """FLUX.1 Kontext: reference latents stand behind the picture's tokens, and are known."""

    @pytest.fixture
    def kontext(self, host):
        return host.load_model(name="flux1-dev.safetensors")

    def given(self, edit, count=1, method=None):
        draw = torch.Generator().manual_seed(2)
        references = [torch.randn(1, 16, 4, 6, generator=draw) for _ in range(count)]
        extra = {"reference_latents": references} | ({"reference_latents_method": method} if method else {})
        return with_extra(edit, **extra)

    @pytest.mark.parametrize(("count", "method"), [(1, None), (2, "index")])
    @pytest.mark.parametrize("masked", [False, True])
    def test_short_calls(self, edit, kontext, twice, reusing, said, count, method, masked):
        given = self.given(edit, count, method)
        if not masked:
            given["latent_image"] = {"samples": edit["latent_image"]["samples"]}
        found = twice(reusing(kontext, first_steps=3), **given)
        assert pairs_off(found) < EXACT
        kept = 8 + (4 if masked else 8)
        assert f"{kept / (16 + 6 * count):.0%} of the tokens" in said[0]

    def test_a_run(self, edit, kontext, sampled, reusing):
        given = self.given(edit) | {"latent_image": {"samples": edit["latent_image"]["samples"]}, "cfg": 2.0}
        plain = sampled(kontext, **given)
        assert 0 < off(sampled(reusing(kontext), **given), plain) < 0.1


class TestCompiled:
    """The host has compiled code ignore transformer options: one compiled for full calls would run for short ones."""

    @pytest.mark.parametrize("order", ["before", "after"])
    def test_the_whole_model_runs_uncompiled(self, host, models, sampled, reusing, said, order):
        def compiled(model):
            return host.call("TorchCompileModel", model=model, backend="eager")[0]

        model = reusing(compiled(models["model"])) if order == "before" else compiled(reusing())
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert torch.equal(sampled(model), sampled(reusing()))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before
        assert "The model ran uncompiled." in said[0] and "uncompiled" not in said[1]

    def test_compiled_blocks_run_uncompiled(self, models, sampled, reusing, said):
        """Put in by a node that the host does not know; the first evaluation is spent on finding out."""
        model = models["model"].clone()
        block = model.get_model_object("diffusion_model.single_blocks.0")
        model.add_object_patch("diffusion_model.single_blocks.0", torch.compile(block, backend="eager"))
        torch._dynamo.reset()
        assert off(sampled(reusing(model, first_steps=3)), sampled(reusing(first_steps=3))) < EXACT
        assert "The model ran uncompiled." in said[0] and said[0].startswith("4 evaluations of the model in full")
        torch._dynamo.reset()

    def test_without_known_tokens_it_stays_compiled(self, models, sampled, reusing, said):
        from comfy_api.torch_helpers import set_torch_compile_wrapper

        model, calls = models["model"].clone(), [0]

        def backend(graph, _):
            calls[0] += 1
            return graph.forward

        torch._dynamo.reset()
        set_torch_compile_wrapper(model, backend, keys=["diffusion_model.final_layer"])
        sampled(reusing(model, refresh_every=1, skip_steps=0.01))
        assert calls[0] > 0
        assert "uncompiled" not in said[0]
        torch._dynamo.reset()
