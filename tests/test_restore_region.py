"""A region's edit stays inside the region, at every scale, and shows there."""

import pytest
import torch
from icedit.diptych.feather import REGION_FEATHER, inside
from icedit.diptych.geometry import Box, Size
from icedit.diptych.image import resize
from icedit.diptych.panels import make_diptych
from icedit.diptych.restore import restore_edit, restore_panels

RED = torch.tensor([0.9, 0.1, 0.1])


def photo(width, height, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 7, 9, 3, generator=generator) * 0.4 + 0.2
    return (resize(coarse, Size(width, height)) * 255).round() / 255


def disc(width, height, radius):
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    return (torch.hypot(y, x) < radius).float()[None]


def edited_everywhere(original, region, mode, **how):
    """What comes of an edit that ignored the region and turned all of the panel red, with a drift."""
    diptych = make_diptych(original, region=region, **how)
    image = diptych.image.clone()
    panel = image[:, :, diptych.layout.panel.width :]
    panel.copy_(0.2 * panel + 0.8 * RED)
    return restore_panels(image, diptych.layout, original, mode)


@pytest.mark.parametrize("mode", ["resize", "blend"])
@pytest.mark.parametrize("size", [(300, 200), (512, 384), (2100, 1400)])
@pytest.mark.parametrize("fit", ["width", "area", "crop_to_region"])
def test_outside_a_region_every_bit_is_the_originals(mode, size, fit):
    original, region = photo(*size), disc(*size, radius=size[1] / 4)
    restored = edited_everywhere(original, region, mode, fit=fit)
    outside = region == 0
    assert torch.equal(restored.image[outside], original[outside])
    assert restored.changed[outside].max() == 0
    assert restored.changed[disc(*size, radius=size[1] / 4 - 12 * max(1, size[0] / 512)) > 0].min() == 1


@pytest.mark.parametrize("mode", ["resize", "blend"])
def test_across_tiles(mode):
    original, region = photo(1500, 300), torch.zeros(1, 300, 1500)
    region[:, 100:200, 100:1400] = 1
    restored = edited_everywhere(original, region, mode, fit="tiles", panel_width=256)
    assert torch.equal(restored.image[region == 0], original[region == 0])
    assert restored.changed[:, 130:170, 130:1370].min() > 0.99


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_region_of_another_scale_than_its_picture(scale):
    original = photo(640, 480)
    region = torch.zeros(1, int(480 * scale), int(640 * scale))
    region[:, int(160 * scale) : int(320 * scale), int(200 * scale) : int(400 * scale)] = 1
    restored = edited_everywhere(original, region, "resize")
    restored.image[:, 160:320, 200:400] = original[:, 160:320, 200:400]
    assert torch.equal(restored.image, original)


@pytest.mark.parametrize("width", [2, 6, 14, 40])
def test_a_thin_region_shows_its_edit(width):
    """`width` pixels of a picture twice the panel's size; the feather takes at most its outer half."""
    original, region = photo(1024, 768), torch.zeros(1, 768, 1024)
    region[:, 100:600, 500 : 500 + width] = 1
    restored = restore_edit(resize(original * 0.2 + 0.8 * RED, Size(512, 384)), original, "resize", region)
    middle = restored.changed[0, 300, 500 : 500 + width]
    assert middle.max() > 0.99
    assert middle.mean() > 0.5
    assert torch.equal(restored.image[region == 0], original[region == 0])


def test_a_hair_in_a_large_picture_shows_its_edit():
    original, region = photo(4000, 3000), torch.zeros(1, 3000, 4000)
    region[:, 1000:2000, 1500] = 1
    restored = restore_edit(resize(original * 0.2 + 0.8 * RED, Size(512, 384)), original, "resize", region)
    assert restored.changed[0, 1500, 1500] > 0.5
    assert torch.equal(restored.image[region == 0], original[region == 0])


def test_the_edit_fades_in_smoothly_from_the_border():
    region = torch.zeros(384, 512, dtype=torch.bool)
    region[100:300, 100:300] = True
    weight = inside(region, Size(512, 384), Box(0, 0, 512, 384), Size(512, 384))
    row = weight[200, 100:200]
    assert row[0] < 0.02
    assert (row[REGION_FEATHER + 1 :] == 1).all()
    assert row.diff().min() >= 0
    assert row.diff().max() < 2 / REGION_FEATHER


def test_a_region_fades_at_its_own_border_not_at_the_pictures_or_a_boxs():
    region = torch.zeros(384, 512, dtype=torch.bool)
    region[:, :300] = True
    size = Size(512, 384)
    assert inside(region, size, Box(0, 0, 512, 384), size)[:, :280].min() == 1
    assert inside(region, size, Box(50, 50, 200, 200), Size(200, 200)).min() == 1
    # This box ends where the region does.
    weight = inside(region, size, Box(100, 100, 200, 200), Size(200, 200))
    assert weight[:, -1].max() < 0.02
    assert weight[:, :180].min() == 1
