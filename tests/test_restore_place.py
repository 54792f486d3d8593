"""Where and at what size edits go back: any size, crops, tiles, batches, edits of other models."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from icedit.diptych.geometry import Size
from icedit.diptych.image import resize
from icedit.diptych.panels import make_diptych
from icedit.diptych.restore import restore_edit, restore_panels
from support.edits import blob, edit, scene, tensor


@st.composite
def sizes(draw):
    """Width and height in 64..6000, either orientation, at most a megapixel to keep the test short."""
    long = draw(st.integers(64, 6000))
    short = draw(st.integers(64, max(64, min(long, 1_000_000 // long))))
    return (long, short) if draw(st.booleans()) else (short, long)


class TestPutBack:
    @settings(max_examples=8, deadline=None)
    @given(sizes(), st.integers(1, 4), st.sampled_from(["width", "area", "tiles"]), st.integers(0, 9))
    @example((6000, 1001), 1, "tiles", 0)
    @example((701, 6000), 1, "area", 0)
    @example((64, 128), 4, "tiles", 0)
    def test_any_size_outside_a_region_is_bit_for_bit_the_original(self, size, batch, fit, seed):
        width, height = size
        torch.manual_seed(seed)
        original = (resize(torch.rand(batch, 5, 5, 3), Size(width, height)) * 255).round() / 255
        region = torch.zeros(1, height, width)
        region[:, height // 3 : height * 2 // 3, width // 4 : width // 2] = 1
        try:
            diptych = make_diptych(original, 256, region, fit=fit)
        except ValueError as error:
            assert "panel" in str(error)
            return
        layout = diptych.layout
        panel = layout.panel
        image = diptych.image.clone()
        image[:, :, panel.width :] = (image[:, :, panel.width :] + 0.5) % 1
        for mode in ("resize", "blend"):
            restored = restore_panels(image, layout, original, mode)
            assert restored.image.shape == original.shape
            outside = restored.changed == 0
            assert torch.equal(restored.image[outside], original[outside])
            assert outside[:, region[0] == 0].all()
            centre = restored.image[:, height // 2, width * 3 // 8]
            assert not torch.equal(centre, original[:, height // 2, width * 3 // 8])

    def test_8_bit_pixels_of_the_edit_come_through_exactly(self):
        """SaveImage cuts off decimals, so a value a hair too low would come out one step darker."""
        rng = np.random.default_rng(0)
        original, edited = (tensor(rng.integers(0, 256, (96, 128, 3)) / np.float32(255)) for _ in range(2))
        layout = make_diptych(original, 128).layout
        restored = restore_panels(torch.cat([original, edited], dim=2), layout, original, "resize")
        assert torch.equal(restored.image, edited)

    def test_strips_make_no_difference(self, monkeypatch):
        rng = np.random.default_rng(0)
        original, edited = tensor(scene(rng, 300, 401)), tensor(scene(rng, 150, 200))
        whole = restore_edit(edited, original, "resize").image
        monkeypatch.setattr("icedit.diptych.geometry.STRIP", 401 * 7)
        assert torch.allclose(restore_edit(edited, original, "resize").image, whole, atol=1e-6)
        assert torch.allclose(whole, resize(edited, Size(401, 300)), atol=1e-6)

    def test_a_crop_goes_back_to_its_place(self):
        rng = np.random.default_rng(1)
        original = tensor(scene(rng, 1200, 3000))
        region = torch.zeros(1, 1200, 3000)
        region[:, 900:1000, 2700:2900] = 1
        diptych = make_diptych(original, region=region, fit="crop_to_region")
        (box,) = diptych.layout.boxes
        assert 200 < box.width <= 500
        assert box.right <= 3000
        image = diptych.image.clone()
        image[:, :, 512:] = 0.3 * image[:, :, 512:] + torch.tensor([0.7, 0.0, 0.0])
        restored = restore_panels(image, diptych.layout, original, "blend").image
        expected = 0.3 * original + torch.tensor([0.7, 0.0, 0.0])
        inside = (0, slice(905, 995), slice(2705, 2895))
        assert (restored[inside] - expected[inside]).abs().mean() < 0.01
        restored[:, 900:1000, 2700:2900] = original[:, 900:1000, 2700:2900]
        assert torch.equal(restored, original)

    def test_tiles_meet_without_a_step(self):
        """Each tile is edited a bit differently; between them the picture passes smoothly from one to the other."""
        original = torch.zeros(1, 200, 900, 3)
        layout = make_diptych(original, 128, fit="tiles").layout
        assert layout.tiles == 6
        values = torch.linspace(0.2, 1.0, 6)
        right = values[:, None, None, None].expand(6, 128, 128, 3)
        image = torch.cat([torch.zeros_like(right), right], dim=2)
        row = restore_panels(image, layout, original, "resize").image[0, 100, :, 0]
        assert row[0] == values[0]
        assert row[-1] == values[-1]
        assert row.diff().min() >= 0
        assert row.diff().max() < 0.16 / 20

    def test_rounds_of_a_batch_give_rounds_of_pictures(self):
        original = torch.rand(2, 96, 128, 3)
        diptych = make_diptych(original, 128)
        restored = restore_panels(diptych.image.repeat(3, 1, 1, 1), diptych.layout, original, "resize")
        assert torch.equal(restored.image, original.repeat(3, 1, 1, 1))


class TestAnyModelsEdit:
    def test_an_edit_of_another_size_is_put_back(self):
        rng = np.random.default_rng(0)
        original = scene(rng, 768, 1024)
        area = blob(rng, 0.2, 768, 1024)
        small = edit("flat", original, area, rng)[::2, ::2][:, :508]
        restored = restore_edit(tensor(small), tensor(original), "blend")
        assert restored.image.shape == (1, 768, 1024, 3)
        outside = restored.changed[0] == 0
        assert 0.5 < outside.float().mean() < 0.95
        assert torch.equal(restored.image[0][outside], tensor(original)[0][outside])

    def test_a_region_limits_an_edit_that_ignored_it(self):
        original = tensor(scene(np.random.default_rng(0), 768, 1024))
        edited = resize(original * 0.5, Size(512, 384))
        region = torch.zeros(1, 768, 1024)
        region[:, 300:400, 500:600] = 1
        for mode in ("resize", "blend"):
            image = restore_edit(edited, original, mode, region).image
            assert (image - original * 0.5)[:, 310:390, 510:590].abs().mean() < 0.02
            assert torch.equal(image[:, region[0] == 0], original[:, region[0] == 0])

    def test_many_edits_of_one_original(self):
        original = torch.rand(1, 96, 128, 3)
        assert restore_edit(torch.rand(3, 48, 64, 3), original, "resize").image.shape == (3, 96, 128, 3)

    @pytest.mark.parametrize(
        ("edited", "original", "message"),
        [
            ((1, 512, 512, 3), (1, 300, 600, 3), "512 x 512 and original is 600 x 300: these are different shapes"),
            ((2, 64, 64, 3), (3, 64, 64, 3), "3 pictures for 2 edits"),
        ],
    )
    def test_what_does_not_fit(self, edited, original, message):
        with pytest.raises(ValueError, match=message):
            restore_edit(torch.rand(edited), torch.rand(original), "blend")
