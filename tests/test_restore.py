"""Putting the changed part of a panel back onto its source, and no other pixel of it."""

import functools

import numpy as np
import pytest
import torch
from icedit.diptych.feather import FEATHER, GROW
from icedit.diptych.image import resize
from icedit.diptych.panels import make_diptych
from icedit.diptych.restore import restore_panels
from scipy import ndimage
from support.edits import HEIGHT, KINDS, WIDTH, blob, diptych_of, drifted, edit, scene, tensor, through_a_vae


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
