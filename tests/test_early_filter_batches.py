"""Batches in the early filter: every row is what KSampler makes of it, or the batch is refused with a sentence."""

import pytest
import torch
from support.early_filter import counting
from support.judges import ScriptedJudge, by_seed
from support.tiny_edit import conditioning, early_filter, edit_inputs, generator, ksampler, sources

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("one_thread")]

COMMON = {"steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}


@pytest.fixture
def filtered(host, models):
    def run(**inputs):
        judge = ScriptedJudge(by_seed(s4=1.0))
        samples, _, seed, report = early_filter(host, **models | COMMON | {"judge": judge} | inputs)
        assert set(report["seeds"]) == {seed} == {4}
        return samples

    return run


@pytest.fixture
def plain(host, models):
    def run(**inputs):
        return ksampler(host, model=models["model"], **COMMON | inputs, seed=4)

    return run


def edits(host, models, count):
    """An edit of one picture, as KSampler's inputs, with its latent repeated."""
    one = edit_inputs(host, models["vae"])
    (latent,) = host.call("RepeatLatentBatch", samples=one["latent_image"], amount=count)
    return one | {"latent_image": latent}


@pytest.mark.parametrize("batch_index", [None, [2]])
def test_a_repeated_latent_gives_edits_that_differ_as_ksamplers(host, models, filtered, plain, batch_index):
    one = edit_inputs(host, models["vae"])
    if batch_index is not None:
        one["latent_image"]["batch_index"] = batch_index
    (latent,) = host.call("RepeatLatentBatch", samples=one["latent_image"], amount=3)
    repeated = one | {"latent_image": latent}
    samples, together = filtered(**repeated), plain(**repeated)
    for index in range(3):
        (row,) = host.call("LatentFromBatch", samples=latent, batch_index=index, length=1)
        assert torch.equal(samples[index : index + 1], plain(**one | {"latent_image": row}))
        # Rows of one call differ from the same rows alone by the order of float sums.
        assert torch.allclose(samples[index], together[index], rtol=1e-3, atol=1e-3)
        assert float((samples[index] - samples[index - 1]).abs().mean()) > 0.1


def test_prompts_are_repeated_over_a_batch_as_ksampler_repeats_them(filtered, plain):
    latent = {"samples": torch.randn(4, 16, 4, 8, generator=generator(7))}
    inputs = {"positive": conditioning(10, 2), "negative": conditioning(20, 3), "latent_image": latent}
    samples = filtered(**inputs)
    assert torch.allclose(samples, plain(**inputs), rtol=1e-3, atol=1e-3)
    swapped = inputs | {"positive": [[value.flip(0), extra] for value, extra in inputs["positive"]]}
    assert not torch.allclose(samples, plain(**swapped), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("conditioned", "rows"), [(2, 4), (3, 2), (3, 4)])
@pytest.mark.parametrize("name", ["positive", "negative"])
def test_diptychs_for_another_number_of_pictures_are_refused(host, models, filtered, conditioned, rows, name):
    model, count = counting(models["model"])
    inputs = edits(host, models, rows) | {name: edit_inputs(host, models["vae"], batch=conditioned)[name]}
    with pytest.raises(ValueError, match=rf"{name} holds the diptychs or pictures of {conditioned} edits.* {rows} pic"):
        filtered(**inputs, model=model)
    assert count[0] == 0


def test_one_picture_with_the_diptychs_of_several_is_sampled_as_by_ksampler_and_pointed_out(
    host, models, filtered, plain, caplog
):
    inputs = edit_inputs(host, models["vae"], batch=3)
    (one,) = host.call("LatentFromBatch", samples=inputs["latent_image"], batch_index=0, length=1)
    with caplog.at_level("INFO"):
        samples = filtered(**inputs | {"latent_image": one})
    assert torch.equal(samples, plain(**inputs | {"latent_image": one}))
    assert "the diptychs or pictures of 3 edits, and latent_image one picture: the first is used" in caplog.text


@pytest.mark.parametrize("count", [2, 4])
def test_sources_for_another_number_of_pictures_are_refused(host, models, filtered, count):
    model, calls = counting(models["model"])
    inputs = edit_inputs(host, models["vae"], batch=3)
    with pytest.raises(ValueError, match=f"source holds {count} pictures, and latent_image 3"):
        filtered(**inputs, model=model, source=sources(count))
    assert calls[0] == 0
    judge = ScriptedJudge(by_seed(s4=1.0))
    filtered(**inputs, source=sources(3), judge=judge)
    assert torch.allclose(torch.stack([question.source for question in judge.questions]), sources(3), atol=1e-6)
    judge = ScriptedJudge(by_seed(s4=1.0))
    filtered(**inputs, source=sources(1), judge=judge)
    assert all(torch.allclose(question.source, sources(1)[0], atol=1e-6) for question in judge.questions)


def test_rows_of_noise_for_another_batch_are_refused(host, models, filtered):
    inputs = edit_inputs(host, models["vae"], batch=3)
    inputs["latent_image"] |= {"batch_index": [0, 1]}
    with pytest.raises(ValueError, match="latent_image holds 3 pictures, but its batch_index says for 2"):
        filtered(**inputs)


def test_noise_masks_are_repeated_as_by_ksampler(host, models, filtered, plain):
    inputs = edits(host, models, 3)
    masks = torch.zeros(2, 1, 32, 64)
    masks[0, ..., 32:] = 1.0
    masks[1, ..., 48:] = 1.0
    for mask in (masks, masks[:, 0], masks[:1], masks[1, 0]):
        latent = inputs["latent_image"] | {"noise_mask": mask}
        samples = filtered(**inputs | {"latent_image": latent})
        assert torch.allclose(samples, plain(**inputs | {"latent_image": latent}), rtol=1e-3, atol=1e-3)


def test_what_a_conditioning_holds_for_each_row_is_shared_out(host):
    from icedit.host.conditioning_rows import conditioning_rows

    tokens, references = torch.randn(2, 8, 32), [torch.randn(2, 16, 4, 8), torch.randn(1, 16, 4, 8)]
    # As high as the batch is large.
    region, regions = torch.rand(4, 8), torch.rand(2, 4, 8)
    entry = {"cross_attn": tokens, "reference_latents": references, "mask": region, "guidance": 3.5}
    (found,), (other,) = conditioning_rows({"positive": [entry], "negative": [{"mask": regions}]}, 3, 4).values()
    assert torch.equal(found["cross_attn"], tokens[1:])
    assert torch.equal(found["reference_latents"][0], references[0][1:])
    assert found["reference_latents"][1] is references[1]
    assert found["mask"] is region
    assert torch.equal(other["mask"], regions[1:])
    assert found["guidance"] == 3.5


def test_keys_that_nobody_knows_are_shared_out_where_they_hold_one_row_for_each_picture(host):
    from icedit.host.conditioning_rows import conditioning_rows

    rows, fewer, numbers = torch.randn(4, 8, 32), torch.randn(2, 8), torch.arange(4)
    entry = {"of_another_pack": rows, "fewer": fewer, "numbers": numbers, "several": [rows, fewer], "none": None}
    ((found,),) = conditioning_rows({"positive": [entry]}, 3, 4).values()
    assert torch.equal(found["of_another_pack"], rows[3:])
    assert found["fewer"] is fewer
    assert found["numbers"] is numbers
    assert torch.equal(found["several"][0], rows[3:])
    assert found["several"][1] is fewer
    assert found["none"] is None


@pytest.mark.parametrize("name", ["mask", "attention_mask", "concat_mask"])
def test_a_known_key_says_by_its_dimensions_whether_it_holds_a_batch(host, name):
    from icedit.host.conditioning_rows import BATCHED, conditioning_rows

    single, batched = (torch.rand([4] * dimensions) for dimensions in (BATCHED[name] - 1, BATCHED[name]))
    for value, expected in ((single, single), (batched, batched[3:])):
        ((found,),) = conditioning_rows({"positive": [{name: value}]}, 3, 4).values()
        assert torch.equal(found[name], expected)
