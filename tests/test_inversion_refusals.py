"""What In-Context Inversion and sampling with it refuse, and in which words."""

import math
from types import SimpleNamespace

import pytest
import torch
from support.early_filter import counting
from support.tiny_edit import conditioning

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("one_thread")]


class TestRefusals:
    def test_hosts_that_do_not_show_values(self, host, inverted, text_to_image, monkeypatch):
        monkeypatch.setattr(host.module("host.inversion.attention"), "PATCH", "no_such_patch")
        counted, count = counting(text_to_image["model"])
        with pytest.raises(ValueError, match=r"attn1_patch.*Get a newer ComfyUI, or work without kept values"):
            inverted(model=counted)
        assert count[0] == 1

    def test_other_models(self, host, inverted):
        with pytest.raises(ValueError, match=r"384 input channels \(FLUX.1-Fill\), expected 64.*flux1-dev.safetensors"):
            inverted(model=host.load_model())

        class SDXL(torch.nn.Module):
            diffusion_model = torch.nn.Linear(2, 2)

        with pytest.raises(ValueError, match=r"The model is SDXL, expected a text-to-image FLUX.1"):
            inverted(model=SimpleNamespace(model=SDXL()))

    def test_a_model_inside_torch_compiles_module_is_accepted(self, text_to_image, monkeypatch):
        """Some nodes put it in the model's place."""
        from icedit.host.inversion.model_check import check_model

        flux = text_to_image["model"].model
        monkeypatch.setitem(flux._modules, "diffusion_model", torch.compile(flux.diffusion_model, backend="eager"))
        check_model(text_to_image["model"])

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"vae": None}, "vae is empty"),
            ({"diptych": torch.rand(1, 32, 72, 3)}, "The diptych is 72 x 32, expected two panels whose sides"),
            ({"diptych": torch.rand(1, 40, 64, 3)}, "The diptych is 64 x 40, expected"),
            ({"denoise": 0.0}, "The schedule has no steps"),
            ({"sigmas": torch.tensor([0.9, 0.5])}, "expected falling ones that end at 0"),
            ({"block_share": -1.0}, "block_share is -1.0, expected 0 to 1"),
            ({"memory_limit": 1e-6}, "memory_limit is 1e-06 GB. Lower step_share or block_share"),
            ({"memory_limit": math.nan}, "memory_limit is nan, expected a number of gigabytes"),
            ({"step_share": math.nan}, "step_share is nan, expected 0 to 1"),
            ({"block_share": math.nan}, "block_share is nan, expected 0 to 1"),
            ({"denoise": math.nan}, "denoise is nan, expected 0 to 1"),
            ({"inversion_guidance": math.nan}, "inversion_guidance is nan, expected a finite number"),
            ({"sigmas": torch.tensor([1.0, math.nan, 0.0])}, "expected falling ones that end at 0"),
            ({"source_prompt": conditioning(1) * 2}, "source_prompt holds 2 conditionings, expected one"),
        ],
    )
    def test_before_any_work(self, inverted, text_to_image, changes, words):
        counted, count = counting(text_to_image["model"])
        with pytest.raises(ValueError, match=words):
            inverted(**{"model": counted} | changes)
        assert count[0] == 0

    def test_a_source_is_required(self, host):
        import nodes

        required = nodes.NODE_CLASS_MAPPINGS["InContextInversion"].INPUT_TYPES()["required"]
        assert {"model", "source_prompt", "vae", "diptych"} <= set(required)

    def test_sampling_something_else(self, inverted, edited, text_to_image):
        model, latent, _ = inverted(step_share=0.0)
        samples = latent["samples"]
        for other, words in (
            ({"samples": torch.ones(1, 16, 4, 16)}, "128 x 32 pixels, but a diptych of 64 x 32 was inverted"),
            ({"samples": samples.flip(-1)}, "left half is not the picture that was inverted"),
            ({"samples": torch.zeros_like(samples)}, "left half is not the picture that was inverted"),
        ):
            with pytest.raises(ValueError, match=words):
                edited(model, other)
        with pytest.raises(ValueError, match=r"starts at sigma 0\.\d+, but the picture was inverted up to 1\."):
            edited(model, latent, denoise=0.5)

    @pytest.mark.parametrize("x", [0, 32])
    def test_conditioning_of_a_part(self, host, inverted, edited, shows_values, x):
        model, latent, _ = inverted()
        # As large as a panel.
        area = {"width": 32, "height": 32, "x": x, "y": 0, "strength": 1.0}
        (part,) = host.call("ConditioningSetArea", conditioning=conditioning(7), **area)
        with pytest.raises(ValueError, match="conditioning areas"):
            edited(model, latent, positive=part)
        (part,) = host.call("ConditioningSetArea", conditioning=conditioning(7), **area | {"width": 16, "x": 0})
        with pytest.raises(ValueError, match="conditioning areas"):
            inverted(source_prompt=part)

    def test_easycache(self, host, inverted, text_to_image):
        (cached,) = host.call(
            "EasyCache", model=text_to_image["model"], reuse_threshold=0.2, start_percent=0.1, end_percent=0.95,
            verbose=False,
        )  # fmt: skip
        with pytest.raises(ValueError, match="Put it after In-Context Inversion"):
            inverted(model=cached)
