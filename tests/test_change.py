"""Finding what an edit changed: on synthetic edits, where the truth is known."""

import numpy as np
import pytest
import torch
from icedit.diptych.change import drift_between, find_change
from icedit.diptych.comparison import changed_on_panels
from icedit.diptych.feather import FEATHER, GROW
from icedit.diptych.restore import restore_edit
from scipy import ndimage
from support.edits import KINDS, blob, diptych_of, drifted, edit, scene, tensor, through_a_vae


def found_change(edited, reference):
    return find_change(tensor(edited)[0], tensor(reference)[0]).numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("radius", [0.15, 0.3, 0.42])
def test_covers_the_change_and_little_else(kind, radius):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        picture, area = scene(rng), blob(rng, radius)
        edited = edit(kind, picture, area, rng)
        found = found_change(drifted(through_a_vae(edited, rng), rng), through_a_vae(picture, rng))
        # What looks the same before and after is no change that anybody could find.
        true = area & (np.abs(ndimage.gaussian_filter(edited - picture, (1, 1, 0))).max(-1) > 10 / 255)
        assert (found & true).sum() >= 0.98 * true.sum(), seed
        assert (found & ~area).sum() <= 0.10 * area.sum(), seed


def test_noise_and_drift_alone_are_no_change():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        picture = scene(rng)
        found = found_change(drifted(through_a_vae(picture, rng), rng), through_a_vae(picture, rng))
        assert found.mean() < 1e-3, seed


def test_a_kept_person_in_a_new_background_is_no_hole():
    rng = np.random.default_rng(0)
    picture, person = scene(rng), blob(rng, 0.25)
    edited = edit("flat", picture, ~person, rng)
    found = found_change(through_a_vae(edited, rng), through_a_vae(picture, rng))
    assert found[person].mean() < 0.1
    assert found[~person].mean() > 0.98


def test_it_stays_on_the_pictures_device():
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


def test_large_pictures_are_compared_at_a_bounded_size(monkeypatch):
    sizes = []

    def compare(edited, reference):
        sizes.append((edited.shape, reference.shape))
        return find_change(edited, reference)

    monkeypatch.setattr("icedit.diptych.comparison.find_change", compare)
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
