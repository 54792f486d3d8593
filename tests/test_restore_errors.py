"""What does not fit together is refused, in sentences that say what to do."""

import pytest
import torch
from icedit.diptych.geometry import Box, DiptychLayout, Size
from icedit.diptych.panels import make_diptych
from icedit.diptych.restore import restore_panels


def test_a_layout_of_another_size():
    layout = make_diptych(torch.rand(1, 96, 128, 3), 128).layout
    with pytest.raises(ValueError, match="original is 64 x 96, but the layout belongs to a picture of 128 x 96"):
        restore_panels(torch.rand(1, 96, 256, 3), layout, torch.rand(1, 96, 64, 3), "blend")


def test_a_layout_of_another_picture_of_the_same_size():
    layout = make_diptych(torch.rand(1, 96, 128, 3), 128).layout
    with pytest.raises(ValueError, match="not the picture that the layout was made for"):
        restore_panels(torch.rand(1, 96, 256, 3), layout, torch.rand(1, 96, 128, 3), "blend")


def test_a_graded_original_is_the_same_picture():
    source = torch.rand(1, 96, 128, 3)
    diptych = make_diptych(source, 128)
    restore_panels(diptych.image, diptych.layout, source * 0.95, "blend")


def test_a_part_of_the_batch():
    diptych = make_diptych(torch.rand(2, 96, 128, 3), 128)
    with pytest.raises(ValueError, match="holds 1 diptychs, but the layout was made for 2"):
        restore_panels(diptych.image[:1], diptych.layout, torch.rand(2, 96, 128, 3), "blend")


def test_a_region_of_another_shape():
    with pytest.raises(ValueError, match="region is 128 x 128, but the picture is 128 x 96"):
        make_diptych(torch.rand(1, 96, 128, 3), 128, torch.ones(1, 128, 128))


def test_a_region_too_small_to_paint():
    region = torch.zeros(1, 960, 1280)
    region[:, 5:20, 5:20] = 1
    with pytest.raises(ValueError, match=r"region is too small.*crop_to_region"):
        make_diptych(torch.rand(1, 960, 1280, 3), 128, region)


def test_a_crop_without_region():
    with pytest.raises(ValueError, match="there is no region"):
        make_diptych(torch.rand(1, 96, 128, 3), 128, fit="crop_to_region")


def test_a_strip_that_would_need_too_many_tiles():
    with pytest.raises(ValueError, match="5000 x 3: that would be 2222 panels, expected at most 32"):
        make_diptych(torch.rand(1, 3, 5000, 3), fit="tiles")


@pytest.mark.parametrize("margin", [float("nan"), float("inf"), -1.0])
def test_a_margin_that_is_none(margin):
    with pytest.raises(ValueError, match="margin is"):
        make_diptych(torch.rand(1, 96, 128, 3), 128, torch.ones(1, 96, 128), "copy", "crop_to_region", margin)


def test_a_box_outside_the_picture():
    with pytest.raises(ValueError, match=r"100 x 50 at \(30, 0\) lies outside the picture, which is 128 x 96"):
        DiptychLayout(Size(128, 96), Size(128, 96), (Box(30, 0, 100, 50),))
