"""Regions as the host's own nodes and its mask editor make them, down to what is sampled."""

import logging

import pytest
import torch
from PIL import Image
from support.node_edit import conditioned, sampled

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def source():
    return torch.rand(1, 96, 128, 3, generator=torch.Generator().manual_seed(3))


def box(value=1.0) -> torch.Tensor:
    mask = torch.zeros(1, 96, 128)
    mask[:, 32:80, 48:112] = value
    return mask


def edited(host, stack, source, region):
    """What is sampled, and the mask it was sampled with."""
    positive, negative, latent, _, _ = conditioned(host, stack, source, region=region)
    return sampled(host, stack, positive, negative, latent), latent["noise_mask"]


@pytest.mark.parametrize("opacity", [0.3, 0.5, 0.75])
def test_half_opacity_is_the_whole_edit(host, stack, source, opacity):
    samples, mask = edited(host, stack, source, box(opacity))
    expected, full = edited(host, stack, source, box())
    assert torch.equal(mask, full)
    assert torch.equal(samples, expected)


def test_a_solid_mask_is_the_whole_picture(host, stack, source):
    (solid,) = host.call("SolidMask", value=0.5, width=128, height=96)
    samples, mask = edited(host, stack, source, solid)
    positive, negative, latent, _, _ = conditioned(host, stack, source)
    assert torch.equal(mask, latent["noise_mask"])
    assert torch.equal(samples, sampled(host, stack, positive, negative, latent))


def test_a_feathered_mask_is_full_inside_and_soft_at_its_edge(host, source):
    (solid,) = host.call("SolidMask", value=1.0, width=128, height=96)
    (feathered,) = host.call("FeatherMask", mask=solid, left=24, top=0, right=0, bottom=0)
    _, mask, _, layout = host.call("DiptychCreate", image="None", image_input=source, panel_width=128, region=feathered)
    edge = mask[0, 40, 128:]
    assert edge[10:].min() == 1
    assert 2 <= ((edge > 0) & (edge < 1)).sum() <= 10
    assert torch.equal(layout.region, mask[:, :, 128:])


def test_the_mask_editors_weak_brush(host):
    """Its brush has an opacity; the page writes what it paints as alpha."""
    picture = Image.new("RGBA", (128, 96), (200, 30, 30, 255))
    picture.paste((200, 30, 30, 128), (48, 32, 112, 80))
    picture.save(host.input / "clipspace-painted-masked-1764000000001.png")
    _, mask, *_ = host.call("DiptychCreate", image="clipspace-painted-masked-1764000000001.png", panel_width=128)
    assert torch.equal(mask[:, :, 128:], box())


class TestLoadImage:
    """One graph for every file: picture and mask of Load Image into Create Diptych."""

    def run(self, host, name):
        picture, mask = host.call("LoadImage", image=name)
        _, mask, _, layout = host.call("DiptychCreate", image="None", image_input=picture, region=mask, panel_width=128)
        return mask[:, :, 128:], layout

    def test_a_jpeg_has_no_region(self, host, caplog):
        Image.new("RGB", (640, 480), (9, 99, 199)).save(host.input / "plain.jpg")
        with caplog.at_level(logging.INFO):
            mask, layout = self.run(host, "plain.jpg")
        assert mask.min() == 1
        assert layout.region is None
        assert "empty mask that Load Image gives" in caplog.text

    @pytest.mark.parametrize("suffix", ["png", "webp"])
    def test_transparency_of_a_file_is_its_region(self, host, suffix):
        picture = Image.new("RGBA", (640, 480), (9, 99, 199, 255))
        picture.paste((9, 99, 199, 0), (240, 160, 560, 400))
        options = {"alpha_quality": 30, "quality": 50} if suffix == "webp" else {}
        picture.save(host.input / f"hole.{suffix}", **options)
        mask, _ = self.run(host, f"hole.{suffix}")
        assert mask[:, 34:78, 50:110].min() == 1
        outside = mask.clone()
        outside[:, 30:82, 46:114] = 0
        assert outside.max() == 0

    def test_a_gif_too(self, host):
        picture = Image.new("P", (640, 480), 0)
        picture.putpalette([9, 99, 199, 0, 255, 0])
        picture.paste(1, (240, 160, 560, 400))
        picture.save(host.input / "hole.gif", transparency=1)
        mask, layout = self.run(host, "hole.gif")
        assert layout.region.max() == 1
        outside = mask.clone()
        outside[:, 30:82, 46:114] = 0
        assert outside.max() == 0

    def test_a_mask_that_was_saved_as_jpeg(self, host):
        mask = Image.new("L", (640, 480), 2)
        mask.paste(128, (240, 160, 560, 400))
        mask.save(host.input / "mask.jpg")
        (region,) = host.call("LoadImageMask", image="mask.jpg", channel="red")
        assert region.min() > 0
        source = torch.rand(1, 480, 640, 3)
        _, mask, _, layout = host.call(
            "DiptychCreate", image="None", image_input=source, region=region, panel_width=128, fit="crop_to_region",
            margin=0.1,
        )  # fmt: skip
        assert (layout.boxes[0].width, layout.boxes[0].height) == (384, 304)
        assert 0.5 < mask[:, :, 128:].mean() < 0.9


class TestDiptychsMask:
    """A maskDiptych that did not come straight from Create Diptych."""

    def condition(self, host, stack, mask):
        return host.call(
            "ICEFConditioning", In_context=[], negative=[], vae=stack[2], diptych=torch.rand(1, 96, 256, 3),
            maskDiptych=mask,
        )[2]["noise_mask"]  # fmt: skip

    def test_noise_is_taken_out(self, host, stack):
        mask = torch.full((1, 96, 256), 2 / 255)
        mask[:, :, 128:] = 254 / 255
        noise_mask = self.condition(host, stack, mask)
        assert noise_mask[..., :128].max() == 0
        assert noise_mask[..., 128:].min() == 1

    @pytest.mark.parametrize(("value", "told"), [(0.5, True), (1.0, False)])
    def test_half_a_mask_is_told(self, host, stack, caplog, value, told):
        mask = torch.zeros(1, 96, 256)
        mask[:, :, 128:] = value
        with caplog.at_level(logging.INFO):
            assert torch.equal(self.condition(host, stack, mask)[:, 0], mask)
        assert ("100% of maskDiptych lies between 0 and 1" in caplog.text) is told


def test_edit_restore_with_the_hosts_no_mask(host):
    original, edit = torch.rand(1, 96, 128, 3), torch.rand(1, 96, 128, 3)
    image, _ = host.call("EditRestore", edited=edit, original=original, restore="resize", region=torch.zeros(1, 64, 64))
    assert torch.equal(image, edit)
