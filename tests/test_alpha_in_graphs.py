"""A transparent picture through the host: edited, restored, saved."""

import numpy as np
import pytest
import torch
from PIL import Image

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def sticker(host):
    """Pixels `h w 4` of an uploaded picture with clear, half clear and opaque parts."""
    pixels = np.random.default_rng(5).integers(0, 256, (96, 128, 4), dtype=np.uint8)
    pixels[:30, :, 3], pixels[60:, :, 3] = 0, 255
    Image.fromarray(pixels).save(host.input / "sticker.png")
    return pixels


def restored(host, restore, **inputs):
    diptych, _, original, layout = host.call("DiptychCreate", image="sticker.png", panel_width=128)
    edited = diptych.clone()
    edited[:, 70:90, 148:188] = torch.tensor([1.0, 0.0, 0.0])
    image, changed = host.call(
        "CropRightHalf", image=edited, layout=layout, original=original, restore=restore, **inputs
    )
    return image, changed


def saved(host, image):
    """What Save Image writes."""
    import folder_paths
    import nodes

    with torch.inference_mode():
        (entry,) = nodes.SaveImage().save_images(image, "sticker")["ui"]["images"]
    with Image.open(f"{folder_paths.get_output_directory()}/{entry['filename']}") as file:
        return np.array(file)


def test_a_restored_sticker_is_the_sticker_outside_its_edit(host, sticker):
    image, changed = restored(host, "blend")
    pixels = saved(host, image)
    assert np.array_equal(pixels[..., 3], sticker[..., 3])
    untouched = (changed[0].numpy() == 0) & (sticker[..., 3] > 0)
    assert 0.3 < untouched.mean() < 0.7
    assert np.array_equal(pixels[untouched], sticker[untouched])
    assert pixels[80, 40].tolist() == [255, 0, 0, 255]


@pytest.mark.parametrize(("restore", "inputs"), [("resize", {"alpha": "opaque"}), ("panel", {})])
def test_opaque_where_that_is_asked_for_and_as_the_panel_was_made(host, sticker, restore, inputs):
    image, _ = restored(host, restore, **inputs)
    assert image.shape == (1, 96, 128, 3)
    assert image[:, :30].min() == 1


def test_the_next_turn_starts_from_it(host, sticker):
    image, _ = restored(host, "resize")
    _, _, original, layout = host.call("DiptychCreate", image="None", image_input=image, panel_width=128)
    assert original.shape == (1, 96, 128, 3)
    assert np.array_equal(layout.alpha[0].numpy(), sticker[..., 3])


def test_an_opaque_picture_stays_one_of_three_channels(host):
    Image.new("RGBA", (128, 96), (1, 2, 3, 255)).save(host.input / "opaque.png")
    diptych, _, original, layout = host.call("DiptychCreate", image="opaque.png", panel_width=128)
    image, _ = host.call("CropRightHalf", image=diptych, layout=layout, original=original, restore="resize")
    assert image.shape[-1] == 3
