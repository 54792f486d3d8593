"""Regions as people and files bring them: noise, opacity, soft edges, the host's empty mask. Without a host."""

import io

import numpy as np
import pytest
import torch
from icedit.diptych.geometry import Box, Size
from icedit.diptych.panels import make_diptych
from icedit.diptych.region import clean_region, is_no_mask, partly_painted
from icedit.diptych.restore import restore_edit
from PIL import Image

SOURCE = Size(640, 480)


def painted(value=1.0, background=0.0) -> torch.Tensor:
    mask = torch.full((1, 480, 640), background)
    mask[:, 200:280, 300:400] = value
    return mask


def cleaned(mask: torch.Tensor) -> torch.Tensor:
    region = clean_region(mask, len(mask), SOURCE).mask
    assert region is not None
    return region


def through_file(mask: torch.Tensor, **options) -> torch.Tensor:
    """A mask as a lossy file gives it back."""
    file = io.BytesIO()
    Image.fromarray((mask[0].numpy() * 255).astype(np.uint8)).save(file, **options)
    return torch.from_numpy(np.asarray(Image.open(file).convert("L"), dtype=np.float32) / 255)[None]


class TestNoise:
    @pytest.mark.parametrize("floor", [5e-5, 2 / 255, 8 / 255])
    def test_a_floor_frees_nothing(self, floor):
        assert torch.equal(cleaned(painted(background=floor)), painted())

    @pytest.mark.parametrize("options", [{"format": "JPEG", "quality": 75}, {"format": "WEBP", "quality": 60}])
    def test_lossy_files_select_what_was_painted(self, options):
        rows, columns = torch.meshgrid(torch.arange(480.0), torch.arange(640.0), indexing="ij")
        distance = ((rows - 240) ** 2 + (columns - 320) ** 2).sqrt()
        lossy = through_file((distance < 90).float()[None], **options)
        assert (lossy[0] > 0)[distance > 95].any()
        region = cleaned(lossy)[0]
        assert region[distance > 102].max() == 0  # ringing ends with its 8 x 8 block
        assert region[distance < 85].min() == 1

    def test_a_crop_is_of_what_was_painted(self):
        torch.manual_seed(0)
        noisy = (painted() + torch.rand(1, 480, 640) * 2 / 255).clamp(max=1)
        source = torch.rand(1, 480, 640, 3)
        boxes = make_diptych(source, 128, noisy, fit="crop_to_region", margin=0.5).layout.boxes
        assert boxes == make_diptych(source, 128, painted(), fit="crop_to_region", margin=0.5).layout.boxes
        assert boxes == (Box(250, 150, 200, 180),)

    def test_noise_alone_is_an_empty_region(self):
        with pytest.raises(ValueError, match="region is empty, so nothing may change"):
            clean_region(torch.full((1, 480, 640), 2 / 255), 1, SOURCE)

    def test_the_empty_one_of_several_is_named(self):
        with pytest.raises(ValueError, match="Picture 2: region is empty, so nothing may change"):
            clean_region(torch.cat([painted(), torch.zeros(1, 480, 640)]), 2, SOURCE)

    def test_nothing_is_restored_where_there_is_only_noise(self):
        original = torch.full((1, 480, 640, 3), 0.5)
        restored = restore_edit(1.0 - original + 0.3, original, "resize", painted(background=2 / 255))
        assert torch.equal(restored.image[:, :150], original[:, :150])


class TestOpacity:
    @pytest.mark.parametrize("opacity", [0.1, 0.25, 0.5, 0.75, 1.0])
    def test_painted_is_painted_in_full(self, opacity):
        assert torch.equal(cleaned(painted(opacity)), painted())

    @pytest.mark.parametrize("opacity", [0.5, 0.75])
    def test_the_diptychs_mask_too(self, opacity):
        source = torch.rand(1, 480, 640, 3)
        assert torch.equal(make_diptych(source, 128, painted(opacity)).mask, make_diptych(source, 128, painted()).mask)

    def test_weak_strokes_beside_strong_ones(self):
        mask = painted()
        mask[:, 20:60, 20:90] = 0.4
        assert torch.equal(cleaned(mask), (mask > 0).float())

    def test_each_mask_by_its_own_strongest_paint(self):
        assert torch.equal(cleaned(torch.cat([painted(0.15), painted()])), painted().expand(2, -1, -1))

    def test_a_soft_edge_stays_soft(self):
        edge = torch.linspace(0, 1, 41)[1:-1]
        mask = torch.cat([torch.zeros(300), edge, torch.ones(301)]).expand(1, 480, 640)
        soft = cleaned(mask)[0, 0]
        assert (soft.diff() >= 0).all()
        assert ((soft > 0) & (soft < 1)).sum() >= 8
        assert soft[320:].min() == 1

    def test_users_hear_of_paint_that_counts_in_full(self):
        (note,) = clean_region(painted(0.5), 1, SOURCE).notes
        assert note.startswith("100% of the region is painted at less than full strength")
        gradient = torch.linspace(0, 1, 640).expand(1, 480, 640)
        assert "painted in full" in clean_region(gradient, 1, SOURCE).notes[0]

    def test_a_brush_with_a_soft_edge_is_no_news(self):
        rows, columns = torch.meshgrid(torch.arange(480.0), torch.arange(640.0), indexing="ij")
        distance = ((rows - 240) ** 2 + (columns - 320) ** 2).sqrt()
        brush = ((120 - distance) / 20).clamp(0, 1)[None]
        assert clean_region(brush, 1, SOURCE).notes == ()
        assert 0 < partly_painted(brush) < 1 / 3


class TestNoMask:
    @pytest.mark.parametrize("mask", [torch.zeros(1, 64, 64), torch.zeros(64, 64), torch.zeros(3, 64, 64)])
    def test_the_hosts_no_mask_is_no_region(self, mask):
        region = clean_region(mask, 1, SOURCE)
        assert region.mask is None
        assert "Load Image" in region.notes[0]
        whole = make_diptych(torch.rand(1, 480, 640, 3), 128, mask)
        assert whole.layout.region is None
        assert whole.mask[:, :, 128:].min() == 1
        assert whole.notes == region.notes

    def test_an_empty_mask_of_its_own_stays_an_error(self):
        for size in (SOURCE, Size(64, 64)):
            mask = torch.zeros(1, size.height, size.width)
            assert not is_no_mask(mask, size)
            with pytest.raises(ValueError, match="region is empty"):
                clean_region(mask, 1, size)

    def test_a_small_painted_mask_is_a_region(self):
        mask = torch.zeros(1, 64, 64)
        mask[:, :32] = 1
        assert not is_no_mask(mask, Size(640, 640))

    def test_a_crop_of_it_says_that_there_is_no_region(self):
        with pytest.raises(ValueError, match="fit is crop_to_region, but there is no region"):
            make_diptych(torch.rand(1, 480, 640, 3), 128, torch.zeros(1, 64, 64), fit="crop_to_region")

    def test_restoring_with_it_is_restoring_without(self):
        original, edited = torch.rand(1, 480, 640, 3), torch.rand(1, 480, 640, 3)
        with_it = restore_edit(edited, original, "resize", torch.zeros(1, 64, 64))
        assert torch.equal(with_it.image, restore_edit(edited, original, "resize").image)
