"""Background edits of the mini models' world, for tests of the panels' inner edge."""

import random

import pytest
import torch

COLUMNS, CLOSE = 4, 8 / 255
"""Pixels at a panel's edge, and the mean error up to which they show no strip."""
FIRST, LAST = slice(0, COLUMNS), slice(-COLUMNS, None)


@pytest.fixture(scope="module")
def background_edits():
    """Pictures before and after edits of the background, `2 64 128 3` each."""
    from icedit.mini.edits import random_edit
    from icedit.mini.render import render

    edits = [random_edit(random.Random(seed), "background") for seed in (1, 3)]
    return tuple(
        torch.stack([render(getattr(e, when))[:, :64] for e in edits]).movedim(1, -1) for when in ("before", "after")
    )


@pytest.fixture(scope="module")
def edited_latent(host, mini_vae, background_edits):
    """What a perfect model samples: a right half encoded beside the source, a left half beside a copy of itself."""
    before, _ = background_edits
    kept, edited = (
        host.call("VAEEncode", pixels=torch.cat([before, right], 2), vae=mini_vae)[0]["samples"]
        for right in background_edits
    )
    half = kept.shape[-1] // 2
    return {"samples": torch.cat([kept[..., :half], edited[..., half:]], -1)}


def error(panel, wanted, columns):
    """The mean difference of these columns of two panels `d h w 3`."""
    return float((panel - wanted)[:, :, columns].abs().mean())
