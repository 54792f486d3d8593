"""Finding what an edit changed and putting it back: on synthetic edits, where the truth is known."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from icedit.diptych.change import drift_between, find_change
from icedit.diptych.feather import FEATHER, GROW
from icedit.diptych.geometry import Box, DiptychLayout, Size
from icedit.diptych.image import resize
from icedit.diptych.panels import make_diptych
from icedit.diptych.restore import changed_on_panels, restore_edit, restore_panels
from scipy import ndimage

WIDTH, HEIGHT = 512, 384


def scene(rng, height=HEIGHT, width=WIDTH):
    """`h w 3`: something like a photo, with a 1/f spectrum, flat areas and hard edges."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) + 2e-3
    layers = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * rng.random(frequency.shape))
        layers.append(np.fft.irfft2(phase / frequency**1.2, (height, width)))
    picture = np.stack(layers, -1)
    picture = 0.5 + 0.12 * picture / picture.std()
    for _ in range(6):
        inside = blob(rng, rng.uniform(0.05, 0.2), height, width)
        picture[inside] = 0.8 * rng.random(3) + 0.2 * picture[inside]
    return np.clip(picture, 0, 1).astype(np.float32)


def blob(rng, radius, height=HEIGHT, width=WIDTH):
    """`h w` bool: a wavy disc; `radius` as a share of the height."""
    y, x = np.mgrid[:height, :width]
    y, x = y - height * rng.uniform(0.35, 0.65), x - width * rng.uniform(0.35, 0.65)
    waves = 1 + 0.2 * np.sin(rng.integers(2, 6) * np.arctan2(y, x) + rng.uniform(0, 6))
    return np.hypot(y, x) < radius * height * waves


def through_a_vae(picture, rng, noise=4 / 255):
    """Blur, and noise that is stronger where there is detail, as decoders leave them."""
    blurred = ndimage.gaussian_filter(picture, (0.7, 0.7, 0))
    grain = ndimage.gaussian_filter(rng.standard_normal(picture.shape), (0.6, 0.6, 0))
    detail = ndimage.gaussian_filter(np.abs(picture - ndimage.gaussian_filter(picture, (2, 2, 0))), (2, 2, 0))
    return np.clip(blurred + grain / grain.std() * (noise + 0.5 * detail), 0, 1).astype(np.float32)


def edit(kind, picture, area, rng):
    new = {
        "another thing": lambda: scene(rng, *picture.shape[:2]),
        "another colour": lambda: np.clip(picture[..., [2, 0, 1]] * 0.7 + np.array([0.3, 0.0, 0.1]), 0, 1),
        "another texture": lambda: np.clip(picture.mean((0, 1)) + 0.15 * rng.standard_normal(picture.shape), 0, 1),
        "flat": lambda: np.broadcast_to(np.array([0.9, 0.1, 0.2]), picture.shape),
    }[kind]()
    return np.where(area[..., None], new, picture).astype(np.float32)


def drifted(picture, rng):
    return np.clip(picture + rng.uniform(-8, 8, 3) / 255, 0, 1).astype(np.float32)


def tensor(picture):
    return torch.from_numpy(np.ascontiguousarray(picture, np.float32))[None]


def found_change(edited, reference):
    return find_change(tensor(edited)[0], tensor(reference)[0]).numpy()


KINDS = ["another thing", "another colour", "another texture", "flat"]


class TestFinding:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("radius", [0.15, 0.3, 0.42])
    def test_covers_the_change_and_little_else(self, kind, radius):
        for seed in range(3):
            rng = np.random.default_rng(seed)
            picture, area = scene(rng), blob(rng, radius)
            edited = edit(kind, picture, area, rng)
            found = found_change(drifted(through_a_vae(edited, rng), rng), through_a_vae(picture, rng))
            # What looks the same before and after is no change that anybody could find.
            true = area & (np.abs(ndimage.gaussian_filter(edited - picture, (1, 1, 0))).max(-1) > 10 / 255)
            assert (found & true).sum() >= 0.98 * true.sum(), seed
            assert (found & ~area).sum() <= 0.10 * area.sum(), seed

    def test_noise_and_drift_alone_are_no_change(self):
        for seed in range(3):
            rng = np.random.default_rng(seed)
            picture = scene(rng)
            found = found_change(drifted(through_a_vae(picture, rng), rng), through_a_vae(picture, rng))
            assert found.mean() < 1e-3, seed

    def test_a_kept_person_in_a_new_background_is_no_hole(self):
        rng = np.random.default_rng(0)
        picture, person = scene(rng), blob(rng, 0.25)
        edited = edit("flat", picture, ~person, rng)
        found = found_change(through_a_vae(edited, rng), through_a_vae(picture, rng))
        assert found[person].mean() < 0.1
        assert found[~person].mean() > 0.98

    def test_it_stays_on_the_pictures_device(self):
        """Emulated: whatever is made elsewhere than the pictures are is on meta here, and meta mixes with nothing."""
        rng = np.random.default_rng(0)
        picture, area = scene(rng), blob(rng, 0.2)
        edited, reference = tensor(edit("flat", picture, area, rng))[0], tensor(picture)[0]
        expected = find_change(edited, reference)
        with torch.device("meta"):
            found = find_change(edited, reference)
            drift = drift_between(edited, reference, ~found)
        assert torch.equal(found, expected)
        assert drift.gain.device == edited.device

    def test_large_pictures_are_compared_at_a_bounded_size(self, monkeypatch):
        sizes = []

        def compare(edited, reference):
            sizes.append((edited.shape, reference.shape))
            return find_change(edited, reference)

        monkeypatch.setattr("icedit.diptych.restore.find_change", compare)
        rng = np.random.default_rng(0)
        original, area = scene(rng, 1500, 2000), blob(rng, 0.2, 1500, 2000)
        edited = edit("flat", original, area, rng)
        changed = changed_on_panels(diptych_of(original, edited))
        restored = restore_edit(tensor(edited), tensor(original), "blend")
        assert all(shape[0] * shape[1] <= 1.01 * 512 * 768 for pair in sizes for shape in pair)
        for found in (changed, restored.changed):
            assert found.shape == (1, 1500, 2000)
            assert found[0][torch.from_numpy(area)].mean() > 0.98
            reach = ndimage.binary_dilation(area, np.ones((3, 3)), iterations=4 * (GROW + FEATHER))
            assert found[0][torch.from_numpy(~reach)].max() == 0


def diptych_of(left, right):
    return torch.cat([tensor(left), tensor(right)], dim=2)


class TestBlend:
    @staticmethod
    @functools.cache
    def restored(seed=0, radius=0.25, kind="another colour"):
        """A photo twice the panel's size, its edit as the sampler leaves it, and what came of it."""
        rng = np.random.default_rng(seed)
        original = tensor(scene(rng, HEIGHT * 2, WIDTH * 2))
        layout = make_diptych(original).layout
        panel = resize(original, layout.panel)[0].numpy()
        area = blob(rng, radius)
        edited = edit(kind, panel, area, rng)
        image = diptych_of(through_a_vae(panel, rng), drifted(through_a_vae(edited, rng), rng))
        return original, area, edited, restore_panels(image, layout, original, "blend")

    @pytest.mark.parametrize("kind", KINDS)
    def test_outside_the_change_every_bit_is_the_originals(self, kind):
        original, area, _, restored = self.restored(kind=kind)
        outside = restored.changed[0] == 0
        assert torch.equal(restored.image[0][outside], original[0][outside])
        reach = np.kron(ndimage.binary_dilation(area, iterations=int(GROW + FEATHER) + 4), np.ones((2, 2))) > 0
        assert outside[torch.from_numpy(~reach)].float().mean() > 0.999
        inside = torch.from_numpy(np.kron(area, np.ones((2, 2))) > 0)
        assert (restored.changed[0][inside] > 0.99).float().mean() > 0.98

    def test_the_edit_is_in_it_and_free_of_drift(self):
        _, area, _, restored = self.restored(kind="flat")
        core = torch.from_numpy(np.kron(ndimage.binary_erosion(area, iterations=6), np.ones((2, 2))) > 0)
        colour = restored.image[0][core].mean(0)
        assert torch.allclose(colour, torch.tensor([0.9, 0.1, 0.2]), atol=2.5 / 255)

    def test_no_visible_seam(self):
        """In a flat picture with drift, the fading rim is no steeper than the noise inside the edit."""
        for seed in range(3):
            rng = np.random.default_rng(seed)
            flat = np.broadcast_to(rng.uniform(0.3, 0.7, 3), (HEIGHT, WIDTH, 3)).astype(np.float32)
            original = tensor(through_a_vae(np.kron(flat, np.ones((2, 2, 1))), rng))
            layout = make_diptych(original).layout
            panel = resize(original, layout.panel)[0].numpy()
            # A hard border of the edit itself is no seam: this one fades in far inside the found area.
            bump = np.clip(ndimage.gaussian_filter(blob(rng, 0.25).astype(np.float32), 12), 0, 1)[..., None]
            edited = panel + bump * np.array([0.2, -0.2, 0.1], np.float32)
            image = diptych_of(through_a_vae(panel, rng), drifted(through_a_vae(edited, rng), rng))
            restored = restore_panels(image, layout, original, "blend")
            steps = ndimage.gaussian_gradient_magnitude(restored.image[0].numpy(), (2.0, 2.0, 0)).mean(-1)
            weight = restored.changed[0].numpy()
            fading = (weight > 0.02) & (weight < 0.98)
            assert fading.any()
            assert steps[fading].mean() <= 1.2 * steps[weight >= 0.98].mean(), seed

    def test_a_style_edit_falls_back_to_resize_and_says_so(self):
        rng = np.random.default_rng(0)
        original = tensor(scene(rng, 600, 800))
        layout = make_diptych(original).layout
        left = resize(original, layout.panel)[0].numpy()
        image = diptych_of(left, 1.0 - left)
        blended = restore_panels(image, layout, original, "blend")
        assert torch.equal(blended.image, restore_panels(image, layout, original, "resize").image)
        assert blended.changed.min() == 1
        assert "of the picture changed" in blended.notes[0]

    def test_no_change_gives_the_original_and_says_so(self):
        original = tensor(scene(np.random.default_rng(0), 600, 800))
        layout = make_diptych(original).layout
        left = resize(original, layout.panel)[0].numpy()
        restored = restore_panels(diptych_of(left, left), layout, original, "blend")
        assert torch.equal(restored.image, original)
        assert restored.changed.max() == 0
        assert "no change" in restored.notes[0]


@st.composite
def sizes(draw):
    """Width and height in 64..6000, either orientation, at most a megapixel to keep the test short."""
    long = draw(st.integers(64, 6000))
    short = draw(st.integers(64, max(64, min(long, 1_000_000 // long))))
    return (long, short) if draw(st.booleans()) else (short, long)


class TestPutBack:
    @settings(max_examples=8, deadline=None)
    @given(sizes(), st.integers(1, 4), st.sampled_from(["width 512", "area", "tiles"]), st.integers(0, 9))
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
        monkeypatch.setattr("icedit.diptych.paste.STRIP", 401 * 7)
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


class TestErrors:
    def test_a_layout_of_another_size(self):
        layout = make_diptych(torch.rand(1, 96, 128, 3), 128).layout
        with pytest.raises(ValueError, match="original is 64 x 96, but the layout belongs to a picture of 128 x 96"):
            restore_panels(torch.rand(1, 96, 256, 3), layout, torch.rand(1, 96, 64, 3), "blend")

    def test_a_layout_of_another_picture_of_the_same_size(self):
        layout = make_diptych(torch.rand(1, 96, 128, 3), 128).layout
        with pytest.raises(ValueError, match="not the picture that the layout was made for"):
            restore_panels(torch.rand(1, 96, 256, 3), layout, torch.rand(1, 96, 128, 3), "blend")

    def test_a_graded_original_is_the_same_picture(self):
        source = torch.rand(1, 96, 128, 3)
        diptych = make_diptych(source, 128)
        restore_panels(diptych.image, diptych.layout, source * 0.95, "blend")

    def test_a_part_of_the_batch(self):
        diptych = make_diptych(torch.rand(2, 96, 128, 3), 128)
        with pytest.raises(ValueError, match="holds 1 diptychs, but the layout was made for 2"):
            restore_panels(diptych.image[:1], diptych.layout, torch.rand(2, 96, 128, 3), "blend")

    def test_a_region_of_another_shape(self):
        with pytest.raises(ValueError, match="region is 128 x 128, but the picture is 128 x 96"):
            make_diptych(torch.rand(1, 96, 128, 3), 128, torch.ones(1, 128, 128))

    def test_a_region_too_small_to_paint(self):
        region = torch.zeros(1, 960, 1280)
        region[:, 5:20, 5:20] = 1
        with pytest.raises(ValueError, match=r"region is too small.*crop_to_region"):
            make_diptych(torch.rand(1, 960, 1280, 3), 128, region)

    def test_a_crop_without_region(self):
        with pytest.raises(ValueError, match="there is no region"):
            make_diptych(torch.rand(1, 96, 128, 3), 128, fit="crop_to_region")

    def test_a_strip_that_would_need_too_many_tiles(self):
        with pytest.raises(ValueError, match="5000 x 3: that would be 2222 panels, expected at most 32"):
            make_diptych(torch.rand(1, 3, 5000, 3), fit="tiles")

    @pytest.mark.parametrize("margin", [float("nan"), float("inf"), -1.0])
    def test_a_margin_that_is_none(self, margin):
        with pytest.raises(ValueError, match="margin is"):
            make_diptych(torch.rand(1, 96, 128, 3), 128, torch.ones(1, 96, 128), "copy", "crop_to_region", margin)

    def test_a_box_outside_the_picture(self):
        with pytest.raises(ValueError, match=r"100 x 50 at \(30, 0\) lies outside the picture, which is 128 x 96"):
            DiptychLayout(Size(128, 96), Size(128, 96), (Box(30, 0, 100, 50),))
