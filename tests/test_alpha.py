"""Transparency of a source: kept beside the picture, and given back to the edited one. Without a host."""

import numpy as np
import pytest
import torch
from icedit.diptych.alpha import alpha_of, with_alpha
from icedit.diptych.image import checked_image
from icedit.diptych.panels import make_diptych
from icedit.diptych.reading import read_picture
from PIL import Image


class TestReading:
    def test_it_is_kept_beside_the_picture(self, tmp_path):
        picture = Image.new("RGBA", (8, 6), (200, 100, 50, 255))
        picture.putpixel((2, 1), (10, 20, 30, 64))
        picture.save(tmp_path / "a.png")
        read = read_picture(tmp_path / "a.png")
        assert read.alpha.dtype == torch.uint8
        expected = torch.full((1, 6, 8), 255, dtype=torch.uint8)
        expected[0, 1, 2] = 64
        assert torch.equal(read.alpha, expected)

    @pytest.mark.parametrize(("mode", "value"), [("RGBA", (1, 2, 3, 255)), ("RGB", (1, 2, 3)), ("LA", (9, 255))])
    def test_opaque_pictures_have_none(self, tmp_path, mode, value):
        Image.new(mode, (8, 6), value).save(tmp_path / "a.png")
        assert read_picture(tmp_path / "a.png").alpha is None


class TestGivingBack:
    def test_the_source_comes_back_to_the_last_bit(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 4), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        read = read_picture(tmp_path / "a.png")
        # As the host's Save Image cuts decimals off.
        rgba = (with_alpha(read.image, read.alpha)[0].numpy() * 255.0).clip(0, 255).astype(np.uint8)
        assert np.array_equal(rgba[..., 3], pixels[..., 3])
        seen = pixels[..., 3] > 0
        assert np.array_equal(rgba[seen], pixels[seen])

    def test_no_white_halo(self):
        """Half transparent black over white is grey, and black again with its transparency."""
        alpha = torch.full((1, 4, 4), 128, dtype=torch.uint8)
        image = torch.full((1, 4, 4, 3), 1 - 128 / 255)
        assert with_alpha(image, alpha)[..., :3].max() < 1e-6

    def test_what_is_opaque_keeps_its_very_values(self):
        image = torch.rand(1, 20, 20, 3)
        alpha = torch.full((1, 20, 20), 255, dtype=torch.uint8)
        alpha[:, :5] = 100
        assert torch.equal(with_alpha(image, alpha)[:, 5:, :, :3], image[:, 5:])

    def test_of_an_image_from_another_node(self):
        rgba = torch.rand(2, 8, 6, 4)
        alpha = alpha_of(rgba)
        assert alpha.dtype == torch.uint8
        assert torch.equal(alpha, (rgba[..., 3] * 255).round().to(torch.uint8))
        opaque = rgba.clone()
        opaque[..., 3] = 1
        assert alpha_of(opaque) is None
        assert alpha_of(rgba[..., :3]) is None
        back = with_alpha(checked_image(rgba), alpha)
        seen = rgba[..., 3] > 0.1
        assert torch.allclose(back[seen], rgba[seen], atol=0.02)

    def test_rounds_of_pictures_repeat_it(self):
        alpha = torch.stack([torch.full((4, 4), value, dtype=torch.uint8) for value in (10, 200)])
        assert torch.equal(with_alpha(torch.rand(6, 4, 4, 3), alpha)[..., 3], (alpha / 255.0).repeat(3, 1, 1))

    def test_the_layout_carries_it(self):
        alpha = torch.zeros(1, 96, 128, dtype=torch.uint8)
        assert make_diptych(torch.rand(1, 96, 128, 3), 128, alpha=alpha).layout.alpha is alpha
        assert make_diptych(torch.rand(1, 96, 128, 3), 128).layout.alpha is None
