"""Geometry, reading pictures, composing panels, the prompt: without a host."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from icedit.diptych.geometry import Size, panel_size, snap
from icedit.diptych.image import checked_image, resize
from icedit.diptych.panels import crop_right_panel, make_diptych
from icedit.diptych.prompt import edit_prompt
from icedit.diptych.reading import read_picture
from PIL import Image


class TestGeometry:
    @pytest.mark.parametrize(
        ("source", "panel"),
        [
            (Size(512, 512), Size(512, 512)),
            (Size(6000, 4000), Size(512, 336)),
            (Size(4000, 6000), Size(512, 768)),
            (Size(1000, 333), Size(512, 176)),
            (Size(1, 1), Size(512, 512)),
        ],
    )
    def test_height_follows_the_aspect_ratio(self, source, panel):
        assert panel_size(source) == panel

    @given(st.integers(64, 2048), st.integers(1, 9000), st.integers(1, 9000))
    def test_sides_are_multiples_of_16_within_bounds_or_refused(self, width, source_width, source_height):
        source = Size(source_width, source_height)
        try:
            panel = panel_size(source, width)
        except ValueError as error:
            assert str(source) in str(error)
            return
        assert panel.width % 16 == panel.height % 16 == 0
        assert 64 <= panel.height <= 2048
        assert abs(panel.width - width) <= 8
        assert abs(panel.height - panel.width * source_height / source_width) <= 8

    def test_halves_snap_up(self):
        assert [snap(length) for length in (0.1, 23.9, 24, 40, 512)] == [16, 16, 32, 48, 512]

    def test_a_flat_picture_is_refused_with_a_way_out(self):
        with pytest.raises(ValueError, match=r"1000 x 50.*32 pixels high.*at least 64.*Raise panel_width"):
            panel_size(Size(1000, 50))

    def test_a_tall_picture_is_refused_with_a_way_out(self):
        with pytest.raises(ValueError, match=r"100 x 1000.*5120 pixels high.*at most 2048.*Lower panel_width"):
            panel_size(Size(100, 1000))


def write(path, mode, value, size=(8, 6), **options):
    Image.new(mode, size, value).save(path, **options)
    return path


def read_pixels(path):
    picture = read_picture(path)
    assert picture.painted is None
    return picture.image


class TestReading:
    def test_rgb_is_exact(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        picture = read_pixels(tmp_path / "a.png")
        assert picture.shape == (1, 5, 7, 3)
        assert picture.dtype == torch.float32
        assert np.array_equal((picture[0].numpy() * 255).round().astype(np.uint8), pixels)

    def test_exif_orientation_is_applied(self, tmp_path):
        image = Image.new("RGB", (8, 6))
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / "a.jpg", exif=exif)
        assert read_pixels(tmp_path / "a.jpg").shape == (1, 8, 6, 3)

    def test_transparency_lies_over_white(self, tmp_path):
        picture = read_pixels(write(tmp_path / "a.png", "RGBA", (255, 0, 0, 0)))
        assert torch.equal(picture, torch.ones(1, 6, 8, 3))

    def test_half_transparency_is_mixed(self, tmp_path):
        picture = read_pixels(write(tmp_path / "a.png", "RGBA", (0, 0, 0, 51)))
        assert torch.allclose(picture, torch.tensor(204 / 255))

    def test_palette_with_a_transparent_colour(self, tmp_path):
        image = Image.new("P", (4, 4), 0)
        image.putpalette([255, 0, 0, 0, 255, 0])
        image.putpixel((0, 0), 1)
        image.save(tmp_path / "a.gif", transparency=0)
        picture = read_pixels(tmp_path / "a.gif")
        assert picture[0, 0, 0].tolist() == [0, 1, 0]
        assert picture[0, 1, 1].tolist() == [1, 1, 1]

    @pytest.mark.parametrize(("value", "expected"), [(65535, 1.0), (32896, 32896 / 65535), (0, 0.0)])
    def test_16_bit_grey_keeps_its_depth(self, tmp_path, value, expected):
        Image.fromarray(np.full((6, 8), value, np.uint16)).save(tmp_path / "a.png")
        picture = read_pixels(tmp_path / "a.png")
        assert picture.shape == (1, 6, 8, 3)
        assert torch.allclose(picture, torch.tensor(expected), atol=1e-6)

    @pytest.mark.parametrize(("mode", "value"), [("L", 128), ("1", 1), ("CMYK", (0, 0, 0, 0)), ("LA", (128, 255))])
    def test_other_modes_become_rgb(self, tmp_path, mode, value):
        path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
        assert read_pixels(write(path, mode, value)).shape == (1, 6, 8, 3)

    @pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
    def test_the_first_frame_of_an_animation_counts(self, tmp_path, suffix):
        frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
        options = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
        assert read_pixels(tmp_path / f"a.{suffix}")[0, 0, 0].tolist() == [1, 0, 0]

    def test_paint_of_the_mask_editor_is_a_mask_and_no_transparency(self, tmp_path):
        image = Image.new("RGBA", (8, 6), (200, 30, 30, 255))
        image.paste((200, 30, 30, 0), (2, 1, 4, 3))
        image.paste((200, 30, 30, 102), (5, 1, 6, 2))
        image.save(tmp_path / "clipspace-painted-masked-1764000000000.png")
        picture = read_picture(tmp_path / "clipspace-painted-masked-1764000000000.png")
        assert picture.alpha is None
        assert torch.equal(picture.image, (torch.tensor([200.0, 30.0, 30.0]) / 255).expand(1, 6, 8, 3))
        expected = torch.zeros(1, 6, 8)
        expected[:, 1:3, 2:4] = 1
        expected[:, 1, 5] = 153 / 255
        assert torch.allclose(picture.painted, expected)

    @pytest.mark.parametrize(("mode", "value"), [("RGBA", (1, 2, 3, 255)), ("RGB", (1, 2, 3))])
    def test_nothing_painted_in_the_mask_editor(self, tmp_path, mode, value):
        assert read_pixels(write(tmp_path / "clipspace-mask-1.png", mode, value)).shape == (1, 6, 8, 3)

    def test_a_text_file_is_refused_by_name(self, tmp_path):
        (tmp_path / "a.png").write_text("hello")
        with pytest.raises(ValueError, match=r"'a\.png' is not a picture"):
            read_pixels(tmp_path / "a.png")

    def test_a_truncated_file_is_refused_by_name(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
        (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=r"'a\.png' could not be read.*damaged"):
            read_pixels(tmp_path / "a.png")


class TestChecking:
    @pytest.mark.parametrize("shape", [(4, 4, 3), (1, 4, 4, 2), (1, 1, 4, 4, 3)])
    def test_wrong_shapes(self, shape):
        with pytest.raises(ValueError, match="expected an IMAGE"):
            checked_image(torch.zeros(shape))

    def test_zero_size(self):
        with pytest.raises(ValueError, match=r"image_input is empty.*\[1, 0, 4, 3\]"):
            checked_image(torch.zeros(1, 0, 4, 3))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_nan_and_infinity(self, value):
        image = torch.zeros(1, 4, 4, 3)
        image[0, 2, 1, 0] = value
        with pytest.raises(ValueError, match=r"NaN or infinite.*fp32-vae"):
            checked_image(image)

    def test_alpha_lies_over_white_and_grey_is_spread(self):
        rgba = torch.tensor([0.0, 0.0, 0.0, 0.25]).expand(1, 2, 2, 4)
        assert torch.allclose(checked_image(rgba), torch.tensor(0.75))
        assert checked_image(torch.rand(2, 3, 4, 1)).shape == (2, 3, 4, 3)


class TestPanels:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 3), st.integers(70, 400), st.integers(70, 400), st.sampled_from([64, 128, 200, 512]))
    def test_create_then_crop_is_the_identity_on_the_panel(self, batch, width, height, panel_width):
        source = torch.rand(batch, height, width, 3)
        try:
            diptych = make_diptych(source, panel_width)
        except ValueError:
            return
        panel = diptych.layout.panel
        left = diptych.image[:, :, : panel.width]
        assert diptych.image.shape == (batch, panel.height, 2 * panel.width, 3)
        assert torch.equal(crop_right_panel(diptych.image, diptych.layout), left)
        assert torch.equal(crop_right_panel(diptych.image), left)
        assert torch.equal(left, resize(source, panel))

    def test_a_picture_of_panel_size_is_not_resampled(self):
        source = torch.rand(1, 96, 128, 3)
        assert torch.equal(make_diptych(source, 128).image[:, :, :128], source)

    def test_resampling_is_lanczos(self):
        ramp = torch.linspace(0, 1, 256).reshape(1, 1, 256, 1).expand(1, 256, 256, 3).contiguous()
        small = resize(ramp, Size(64, 64))
        expected = (torch.arange(64) * 4 + 1.5) / 255
        assert torch.allclose(small[0, 32, 4:-4, 0], expected[4:-4], atol=1e-4)

    def test_the_mask_covers_the_right_panel_only(self):
        diptych = make_diptych(torch.rand(2, 96, 128, 3), 128)
        assert diptych.mask.shape == (2, 96, 256)
        assert diptych.mask[:, :, :128].max() == 0
        assert diptych.mask[:, :, 128:].min() == 1

    def test_a_region_of_any_size_is_scaled_onto_the_right_panel(self):
        region = torch.zeros(1, 48, 64)
        region[:, 24:, :32] = 1
        mask = make_diptych(torch.rand(2, 96, 128, 3), 128, region).mask
        assert mask[:, :, :128].max() == 0
        right = mask[:, :, 128:]
        assert right.shape == (2, 96, 128)
        assert right[:, 52:, :60].min() == 1
        assert right[:, :44].max() == 0
        assert right[:, :, 68:].max() == 0

    def test_each_picture_can_have_its_region(self):
        region = torch.zeros(2, 96, 128)
        region[0, :, :64] = 1
        region[1, :, 64:] = 1
        right = make_diptych(torch.rand(2, 96, 128, 3), 128, region).mask[:, :, 128:]
        assert torch.equal(right, region)

    def test_a_region_of_a_wrong_batch(self):
        with pytest.raises(ValueError, match="region holds 3 masks for 2 pictures"):
            make_diptych(torch.rand(2, 96, 128, 3), 128, torch.ones(3, 8, 8))

    def test_an_empty_region(self):
        with pytest.raises(ValueError, match="region is empty"):
            make_diptych(torch.rand(1, 96, 128, 3), 128, torch.zeros(1, 8, 8))

    def test_the_earlier_name_of_a_fit_is_the_present_one(self):
        source = torch.rand(1, 96, 128, 3)
        assert make_diptych(source, 128, fit="width 512").layout == make_diptych(source, 128, fit="width").layout

    def test_grey_right_panel(self):
        diptych = make_diptych(torch.rand(1, 96, 128, 3), 128, right_panel="grey")
        assert torch.equal(diptych.image[:, :, 128:], torch.full((1, 96, 128, 3), 0.5))

    def test_the_crop_refuses_another_pictures_layout(self):
        layout = make_diptych(torch.rand(1, 96, 128, 3), 128).layout
        with pytest.raises(ValueError, match="256 x 128, but the layout belongs to a diptych of 256 x 96"):
            crop_right_panel(torch.rand(1, 128, 256, 3), layout)

    def test_an_upscaled_diptych_gives_an_upscaled_panel(self):
        diptych = make_diptych(torch.rand(1, 96, 128, 3), 128)
        assert crop_right_panel(torch.rand(1, 192, 512, 3), diptych.layout).shape == (1, 192, 256, 3)

    @pytest.mark.parametrize(("height", "width"), [(724, 1931), (750, 2000), (751, 2000), (749, 2000)])
    def test_scaling_may_round_its_sides(self, height, width):
        diptych = make_diptych(torch.rand(1, 96, 128, 3), 128)
        assert crop_right_panel(torch.rand(1, height, width, 3), diptych.layout).shape[1] == height


class TestPrompt:
    def test_word_for_word(self):
        assert edit_prompt("make it blue") == (
            "A diptych with two side-by-side images of the same scene. On the right, the scene is exactly the same as "
            "on the left but make it blue"
        )

    def test_braces_are_text(self):
        assert edit_prompt("write {0} and {instruction}").endswith("but write {0} and {instruction}")

    def test_none_is_the_text_alone(self):
        assert edit_prompt("  a cat ", "none") == "a cat"

    def test_text_to_image_says_what_the_left_panel_shows(self):
        assert edit_prompt("make it {blue}", "text-to-image", " a {red} car of {instruction}. ") == (
            "A diptych with two side-by-side images of the same scene. On the left: a {red} car of {instruction}. On "
            "the right, the scene is exactly the same as on the left but make it {blue}"
        )

    def test_text_to_image_without_a_description_is_the_trained_sentence(self):
        assert edit_prompt("make it blue", "text-to-image", " ") == edit_prompt("make it blue")

    def test_other_templates_have_no_place_for_a_description(self):
        for template in ("ICEdit", "none"):
            assert edit_prompt("make it blue", template, "a car") == edit_prompt("make it blue", template)

    @pytest.mark.parametrize("text", ["", "  \n"])
    def test_empty(self, text):
        with pytest.raises(ValueError, match="instruction is empty"):
            edit_prompt(text)
