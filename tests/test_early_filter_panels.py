"""What of a diptych is decoded for judges and for users who choose: only what sampling can change."""

import copy

import pytest
import torch
from support.judges import ScriptedJudge, by_seed
from support.panel_edge import CLOSE, FIRST, error
from support.tiny_edit import conditioning, early_filter

pytestmark = pytest.mark.host

HALF, EDGE = 16, 4
"""Latent columns of a panel, and of its edge that is decoded to be corrected."""
WHOLE, RIGHT, SEAM = 2 * HALF, EDGE + HALF, 2 * EDGE


@pytest.fixture
def seen(models):
    """The models, and how many latent columns their VAE was given to decode each time."""
    spy, widths = copy.copy(models["vae"]), []

    def decode(samples):
        widths.extend([samples.shape[-1]] * len(samples))
        return models["vae"].decode(samples)

    spy.decode = decode
    return models | {"vae": spy}, widths


def edit_inputs(host, models, masked=True, batch=1):
    panels = torch.rand(batch, 32, 8 * HALF, 3)
    mask = torch.zeros(batch, 32, 16 * HALF)
    mask[:, :, 8 * HALF :] = 1.0
    positive, negative, start = host.call(
        "InpaintModelConditioning", positive=conditioning(10, batch), negative=conditioning(20, batch),
        vae=models["vae"], pixels=torch.cat([panels, panels], 2), mask=mask, noise_mask=masked,
    )  # fmt: skip
    return {"positive": positive, "negative": negative, "latent_image": start}


@pytest.mark.parametrize(
    ("masked", "changes", "columns"),
    [
        (True, {"candidates": 4, "keep": 2}, WHOLE + (4 + 2) * RIGHT),
        # A source is given, and the left panel is decoded to see whether it is still that one.
        (True, {"source": torch.rand(1, 32, 32, 3), "mode": "paper", "probe_steps": 2}, WHOLE + 3 * RIGHT),
        # Nothing keeps the left panel as it was.
        (False, {}, WHOLE + 3 * WHOLE),
        # Users choose by the edits alone.
        (True, {"choose": "me", "picked": "#2"}, SEAM + RIGHT),
        (False, {"choose": "me", "picked": "#2"}, SEAM + RIGHT),
    ],
)
def test_only_what_sampling_can_change_is_decoded_for_each_candidate(host, seen, masked, changes, columns):
    models, widths = seen
    inputs = edit_inputs(host, models, masked)
    _, previews, *_ = early_filter(host, **models, **inputs, **{"judge": ScriptedJudge(by_seed(s4=1.0))} | changes)
    assert sum(widths) == columns
    assert previews.shape[1:] == (32, 8 * HALF, 3)


def test_each_tile_of_a_picture_has_its_own_left_panel(host, seen):
    models, widths = seen
    inputs, judge = edit_inputs(host, models, batch=2), ScriptedJudge(by_seed(s4=1.0))
    inputs["latent_image"] |= {"batch_index": [0, 0], "icedit_tiles": 2}
    early_filter(host, **models, **inputs, judge=judge)
    assert sum(widths) == 2 * (WHOLE + 3 * RIGHT)
    (decoded,) = host.call("VAEDecode", vae=models["vae"], samples=inputs["latent_image"])
    tiles = torch.cat(list(decoded[:, :, : 8 * HALF]), 1)
    assert all(torch.allclose(entry.left, tiles, atol=1e-3) for entry in judge.edits)


def test_a_left_panel_that_was_redrawn_is_shown_as_it_became(host, models):
    inputs, judge = edit_inputs(host, models, masked=False), ScriptedJudge(by_seed(s4=1.0))
    early_filter(host, **models, **inputs, judge=judge, mode="paper", probe_steps=2)
    short = {"model": models["model"], "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    (short,) = host.call("KSampler", **short, **inputs, seed=4, steps=2)
    (whole,) = host.call("VAEDecode", vae=models["vae"], samples=short)
    assert torch.allclose(torch.cat([judge.edits[1].left, judge.edits[1].panel], 1), whole[0], atol=1e-3)
    assert not torch.allclose(judge.edits[1].left, judge.questions[0].source, atol=0.02)


@torch.inference_mode()
@pytest.mark.parametrize("judged", [True, False])
def test_previews_show_no_strip(mini_vae, background_edits, edited_latent, judged):
    _, after = background_edits
    samples = edited_latent["samples"]
    assert error(mini_vae.decode(samples)[:, :, 128:], after, FIRST) > 1.3 * CLOSE, "there is nothing to correct"
    found = [panels_of(one, vae=mini_vae, judged=judged).previews({1: [one]})[0] for one in samples.split(1)]
    assert error(torch.stack([preview.panel for preview in found]), after, FIRST) < CLOSE


class Enlarger:
    """Shows a latent as a picture, each of its places as 8 x 8 pixels."""

    def decode(self, latents):
        return latents[:, :3].movedim(1, -1).repeat_interleave(8, 1).repeat_interleave(8, 2)


class Video(Enlarger):
    """Pictures are its frames, as for the host's VAEs of videos."""

    latent_dim = 3

    def decode(self, latents):
        return super().decode(latents[:, :, 0])[:, None]


def panels_of(*rows, vae=None, judged=True):
    from icedit.host.early_filter.panels import Panels
    from icedit.host.sampling import LatentRow

    latents = [LatentRow(one, None, None, index, len(rows)) for index, one in enumerate(rows)]
    return Panels(vae or Enlarger(), "right half", latents, judged)


@pytest.mark.parametrize(("columns", "frames"), [(7, False), (8, False), (8, True)])
def test_what_cannot_be_decoded_apart_is_decoded_whole(host, columns, frames):
    """A latent without a middle column, a VAE that only decodes, a picture that is a frame."""
    latent = torch.rand(1, 16, 4, columns)
    given, vae = (latent[:, :, None], Video()) if frames else (latent, Enlarger())
    (whole,) = Enlarger().decode(latent)
    (preview,) = panels_of(given, vae=vae).previews({1: [given]})
    assert torch.allclose(torch.cat([preview.left, preview.panel], 1), whole, atol=1e-3)
    (alone,) = panels_of(given, vae=vae, judged=False).previews({1: [given]})
    assert alone.left is None
    assert torch.equal(alone.panel, preview.panel)
    assert alone.picture.untyped_storage().nbytes() == alone.picture.nbytes


@torch.inference_mode()
def test_candidates_share_the_left_panel_where_every_tile_kept_it(models):
    rows = [torch.randn(1, 16, 4, 2 * HALF) for _ in range(2)]
    changed, broken = rows[1].clone(), rows[1].clone()
    changed[..., 3] += 0.5
    broken[..., 0] = torch.nan
    rounded = [row.to(torch.bfloat16).float() for row in rows]
    candidates = {1: rows, 2: [rows[0], changed], 3: rounded, 4: [rows[0], broken]}
    found = panels_of(*rows, vae=models["vae"]).previews(candidates)
    assert [preview.seed for preview in found] == [1, 2, 3, 4]
    kept, redrawn, same, invalid = (preview.left for preview in found)
    assert torch.equal(kept, same)
    assert not torch.allclose(kept, redrawn, atol=0.01)
    assert bool(invalid.isnan().any()) and not bool(kept.isnan().any())
