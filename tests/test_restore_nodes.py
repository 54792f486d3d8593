"""Restoring on the real host: turns, tiles, crops, and what users are told."""

import pytest
import torch
from support import golden
from support.node_edit import sampled

pytestmark = pytest.mark.host


def turn(host, stack, picture, seed, **inputs):
    """One edit from picture to restored picture."""
    diptych, mask, original, layout = host.call(
        "DiptychCreate", image="None", image_input=picture, panel_width=128, **inputs
    )
    positive, _, _ = host.call("InContextEditInstruction", editText=f"turn {seed}", clip=stack[1])
    positive, negative, latent = host.call(
        "ICEFConditioning", In_context=positive, negative=positive, vae=stack[2], diptych=diptych, maskDiptych=mask,
        layout=layout,
    )  # fmt: skip
    samples = sampled(host, stack, positive, negative, latent, seed=seed)
    (decoded,) = host.call("VAEDecode", vae=stack[2], samples={"samples": samples})
    return host.call("CropRightHalf", image=decoded, layout=layout, original=original, restore="blend")


def test_after_three_turns_untouched_pixels_are_the_first_pictures(host, stack):
    first = (torch.rand(1, 300, 400, 3) * 255).round() / 255
    picture, painted, touched = first, *torch.zeros(2, 1, 300, 400, dtype=torch.bool)
    for seed in (1, 2, 3):
        region = torch.zeros(1, 300, 400)
        region[:, 80 * (seed - 1) : 80 * seed, 100:200] = 1
        painted |= region > 0
        before = picture
        picture, changed = turn(host, stack, picture, seed, region=region)
        assert not torch.equal(picture, before)
        touched |= changed > 0
    assert torch.equal(picture[~touched], first[~touched])
    assert torch.equal(picture[~painted], first[~painted])
    assert 0.5 * painted.sum() < touched.sum() <= painted.sum()


@pytest.mark.parametrize("fit", ["area", "crop_to_region", "tiles"])
def test_every_fit_comes_back_at_the_sources_size(host, stack, fit):
    source = torch.rand(1, 200, 500, 3)
    region = torch.zeros(1, 200, 500)
    region[:, 60:140, 200:300] = 1
    image, changed = turn(host, stack, source, 1, region=region, fit=fit)
    assert image.shape == source.shape
    assert changed.max() > 0
    assert torch.equal(image[region == 0], source[region == 0])


def test_tiles_start_from_one_noise(host, stack):
    """The same picture in every tile gives the same edit in every tile, which a plain batch does not."""
    tile = torch.rand(1, 64, 64, 3)
    source = tile.repeat(2, 1, 4, 1)
    diptych, mask, _, layout = host.call("DiptychCreate", image="None", image_input=source, panel_width=64, fit="tiles")
    assert layout.tiles == 5
    # The tiles in between are cut at other places; the first and the last show the same.
    positive, _, _ = host.call("InContextEditInstruction", editText="x", clip=stack[1])
    positive, negative, latent = host.call(
        "ICEFConditioning", In_context=positive, negative=positive, vae=stack[2], diptych=diptych, maskDiptych=mask,
        layout=layout,
    )  # fmt: skip
    assert latent["batch_index"] == [0] * 5 + [1] * 5
    (samples,) = host.call(
        "KSampler", model=stack[0], seed=1, steps=2, cfg=1.0, sampler_name="euler", scheduler="simple",
        positive=positive, negative=negative, latent_image=latent, denoise=1.0,
    )  # fmt: skip
    samples = samples["samples"]
    assert golden.difference(samples[0], samples[4]) <= 1e-4
    assert golden.difference(samples[0], samples[5]) > 1e-2


def test_a_layout_of_another_batch_is_refused(host, stack):
    _, _, _, layout = host.call(
        "DiptychCreate", image="None", image_input=torch.rand(1, 64, 256, 3), panel_width=64, fit="tiles"
    )
    with pytest.raises(ValueError, match="layout was made for 5 diptychs, but there are 1"):
        host.call(
            "ICEFConditioning", In_context=[], negative=[], vae=stack[2], diptych=torch.rand(1, 64, 128, 3),
            maskDiptych=torch.ones(1, 64, 128), layout=layout,
        )  # fmt: skip


def test_edits_of_any_model_through_their_own_node(host):
    original = torch.rand(1, 96, 128, 3)
    image, changed = host.call("EditRestore", edited=original[:, ::2, ::2], original=original, restore="resize")
    assert image.shape == original.shape
    assert changed.min() == 1


class TestRegionOfAnyModelsEdit:
    """What the host's own nodes and picture files make of a mask; the edit turned everything red."""

    @pytest.fixture
    def original(self):
        return (torch.rand(1, 300, 400, 3, generator=torch.Generator().manual_seed(0)) * 255).round() / 255

    def restored(self, host, original, region, restore):
        edited = torch.tensor([0.9, 0.1, 0.1]).expand(1, 150, 200, 3)
        return host.call("EditRestore", edited=edited, original=original, restore=restore, region=region)[0]

    @pytest.mark.parametrize("restore", ["blend", "resize"])
    @pytest.mark.parametrize("opacity", [1.0, 0.5])
    def test_noise_is_no_region_and_weak_paint_is(self, host, original, restore, opacity):
        mask = torch.rand(1, 300, 400, generator=torch.Generator().manual_seed(1)) * 2 / 255
        mask[:, 100:200, 100:300] = opacity
        image = self.restored(host, original, mask, restore)
        assert torch.equal(image, self.restored(host, original, (mask > 0.1).float(), restore))
        assert (image[:, 120:180, 120:280] - torch.tensor([0.9, 0.1, 0.1])).abs().max() < 0.1
        outside = mask <= 0.1
        assert torch.equal(image[outside], original[outside])

    def test_load_images_empty_mask_is_no_region(self, host, original):
        image = self.restored(host, original, torch.zeros(1, 64, 64), "resize")
        assert torch.equal(image, self.restored(host, original, None, "resize"))

    def test_users_hear_what_became_of_their_region(self, host, original, caplog):
        mask = torch.zeros(1, 300, 400)
        mask[:, 100:200, 100:300] = 0.5
        with caplog.at_level("INFO"):
            self.restored(host, original, mask, "resize")
        assert "100% of the region is painted at less than full strength" in caplog.text

    def test_an_empty_mask_of_its_own_is_refused(self, host, original):
        with pytest.raises(ValueError, match="region is empty, so nothing may change"):
            self.restored(host, original, torch.zeros(1, 300, 400), "blend")


@pytest.mark.parametrize("given", [{}, {"layout": True}, {"original": True}])
def test_restoring_without_layout_or_original_says_what_is_missing(host, given):
    source = torch.rand(1, 96, 128, 3)
    diptych, _, original, layout = host.call("DiptychCreate", image="None", image_input=source, panel_width=128)
    inputs = {name: value for name, value in (("layout", layout), ("original", original)) if name in given}
    with pytest.raises(ValueError, match=r"restore is blend, but (layout|original|layout and original) is not"):
        host.call("CropRightHalf", image=diptych, restore="blend", **inputs)


def test_the_log_says_that_a_style_edit_was_resized(host, caplog):
    source = torch.rand(1, 96, 128, 3)
    diptych, _, original, layout = host.call("DiptychCreate", image="None", image_input=source, panel_width=128)
    diptych = diptych.clone()
    diptych[:, :, 128:] = torch.tensor([1.0, 0.0, 0.0])
    with caplog.at_level("INFO"):
        _, changed = host.call("CropRightHalf", image=diptych, layout=layout, original=original, restore="blend")
    assert changed.min() == 1
    assert "of the picture changed" in caplog.text
