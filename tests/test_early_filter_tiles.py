"""The tiles of one picture in the early filter: judged together, and one winner for all of them."""

import pytest
import torch
from support.early_filter import counting
from support.judges import ScriptedJudge, by_seed
from support.tiny_edit import conditioning, edit_inputs, sources

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("one_thread")]


def in_tiles(latent, noise_rows):
    """A latent as Diptych Conditioning makes it for fit tiles."""
    return latent | {"batch_index": noise_rows, "icedit_tiles": len(noise_rows) // len(set(noise_rows))}


@pytest.mark.parametrize("mode", ["resume", "paper"])
def test_the_tiles_of_a_picture_get_one_winner(host, filtered, plain, models, mode):
    """Each tile as KSampler makes it alone with that seed."""
    batch = edit_inputs(host, models["vae"], batch=4)
    batch["latent_image"] = in_tiles(batch["latent_image"], [0, 0, 1, 1])
    picked = iter((5, 5, 5, 4, 4, 4))
    judge = ScriptedJudge(lambda entry: by_seed(**{f"s{next(picked)}": 1.0})(entry))
    model, count = counting(models["model"])
    samples, previews, seed, report = filtered(**batch, model=model, judge=judge, mode=mode)
    assert (seed, report["seeds"], previews.shape) == (5, [5, 4], (2 * 3, 32, 64, 3))
    for index, winner in enumerate((5, 5, 4, 4)):
        latent, noise_row = batch["latent_image"], batch["latent_image"]["batch_index"][index]
        one = {
            "samples": latent["samples"][index : index + 1],
            "noise_mask": latent["noise_mask"][index : index + 1],
            "batch_index": [noise_row],
        }
        conds = {}
        for name in ("positive", "negative"):
            ((tokens, options),) = batch[name]
            row = {key: v[index : index + 1] if isinstance(v, torch.Tensor) else v for key, v in options.items()}
            conds[name] = [[tokens[index : index + 1], row]]
        assert torch.equal(samples[index : index + 1], plain(latent_image=one, **conds, seed=winner))
    assert report["evaluations"]["spent"] == count[0] == 4 * (3 * 1 + (3 + 1 if mode == "resume" else 4))
    assert report["evaluations"]["no_filter"] == 4 * 4
    (source,) = host.call("VAEDecode", vae=models["vae"], samples={"samples": batch["latent_image"]["samples"]})
    first = judge.questions[0]
    assert torch.allclose(first.source, torch.cat([source[0, :, :32], source[1, :, :32]], dim=1), atol=1e-6)
    assert judge.edits[0].panel.shape == judge.edits[0].left.shape == (32, 64, 3)


def test_a_region_on_one_tile_is_that_part_of_the_picture(host, filtered, models):
    batch = edit_inputs(host, models["vae"], batch=2)
    mask = torch.zeros(2, 1, 32, 64)
    mask[1, 0, 8:24, 40:56] = 1.0
    judge = ScriptedJudge(by_seed(s4=1.0))
    latent = in_tiles(batch["latent_image"] | {"noise_mask": mask}, [0, 0])
    filtered(**batch | {"latent_image": latent}, judge=judge)
    assert torch.equal(judge.questions[0].region, torch.cat([mask[0, 0, :, 32:], mask[1, 0, :, 32:]], dim=1))


def test_tiles_of_the_real_nodes_are_one_picture(host, filtered, models):
    diptych, mask, _, layout = host.call(
        "DiptychCreate", image="None", image_input=torch.rand(1, 32, 96, 3), panel_width=64, fit="tiles"
    )
    conds = {"In_context": conditioning(10), "negative": conditioning(20)}
    positive, negative, latent = host.call(
        "ICEFConditioning", **conds, vae=models["vae"], diptych=diptych, maskDiptych=mask, layout=layout
    )
    assert len(diptych) > 2
    common = {"positive": positive, "negative": negative, "steps": 2}
    _, previews, _, report = filtered(latent_image=latent, **common)
    assert (len(previews), len(report["seeds"])) == (3, 1)
    # A tile alone, and pictures that merely start from the same noise, are pictures of their own.
    (one,) = host.call("LatentFromBatch", samples=latent, batch_index=1, length=1)
    assert len(filtered(latent_image=one, **common)[3]["seeds"]) == 1
    del latent["icedit_tiles"]
    assert len(filtered(latent_image=latent, **common)[3]["seeds"]) == len(diptych)
    # The samplers' own layout says it without the latent's key.
    assert len(filtered(latent_image=latent, layout=layout, **common)[3]["seeds"]) == 1
    assert len(filtered(latent_image=one, layout=layout, **common)[3]["seeds"]) == 1


def test_a_layout_at_the_sampler_decides_over_what_the_latent_says(host, filtered, models):
    def layout_of(image, **fit):
        return host.call("DiptychCreate", image="None", image_input=image, panel_width=64, **fit)[3]

    batch = edit_inputs(host, models["vae"], batch=4)
    latent = in_tiles(batch["latent_image"], [0, 0, 0, 0])
    tiles, whole = layout_of(torch.rand(1, 32, 96, 3), fit="tiles"), layout_of(torch.rand(4, 32, 32, 3))
    common = batch | {"steps": 2, "latent_image": latent}
    assert len(filtered(**common)[3]["seeds"]) == 1
    assert len(filtered(**common, layout=whole)[3]["seeds"]) == 4
    common["latent_image"] = in_tiles(latent, [0, 0, 1, 1])
    assert len(filtered(**common)[3]["seeds"]) == 2
    assert len(filtered(**common, layout=tiles)[3]["seeds"]) == 1


def test_tiles_that_cannot_be_told_apart_or_have_other_sources_are_refused(host, filtered, models):
    batch = edit_inputs(host, models["vae"], batch=4)
    latent = in_tiles(batch["latent_image"], [0, 0, 1, 1])
    model, count = counting(models["model"])
    with pytest.raises(ValueError, match="source holds 1 pictures, and latent_image 4 tiles"):
        filtered(**batch | {"latent_image": latent}, model=model, source=sources())
    with pytest.raises(ValueError, match="latent_image holds 4 tiles of pictures that have 3 each"):
        filtered(**batch | {"latent_image": latent | {"icedit_tiles": 3}}, model=model)
    assert count[0] == 0
