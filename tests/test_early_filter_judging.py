"""What the sampler nodes show a judge, and what becomes of a run whose judge fails."""

from types import SimpleNamespace

import pytest
import torch
from support.early_filter import counting
from support.judges import ScriptedJudge, by_seed
from support.tiny_edit import conditioning, sources

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("one_thread")]


def test_without_a_judge_the_pixel_judge_chooses(filtered):
    _, _, _, report = filtered()
    assert report["pictures"][0]["looks"][0]["judge"] == "pixels"


def test_a_failing_judge_does_not_lose_the_run(filtered, plain, caplog):
    def fail(*_):
        raise TimeoutError("no answer within 60 s")

    samples, _, seed, report = filtered(judge=ScriptedJudge(fail))
    assert torch.equal(samples, plain(seed=seed))
    assert "no answer within 60 s" in report["pictures"][0]["failures"][0]["error"]
    assert report["pictures"][0]["looks"][0]["judge"] == "pixels"
    assert "no answer within 60 s" in caplog.text


def test_the_node_says_that_the_judge_failed_and_who_chose(host, models, edit, monkeypatch):
    import nodes
    from comfy_api.latest import io
    from server import PromptServer

    def fail(*_):
        raise TimeoutError("no answer within 60 s")

    said = []
    server = SimpleNamespace(send_progress_text=lambda text, node: said.append((node, text)), client_id=None)
    monkeypatch.setattr(PromptServer, "instance", server, raising=False)
    (guider,) = host.call("BasicGuider", model=models["model"], conditioning=edit["positive"])
    (method,) = host.call("KSamplerSelect", sampler_name="euler")
    (sigmas,) = host.call("BasicScheduler", model=models["model"], scheduler="simple", steps=2, denoise=1.0)
    common = {
        "seed": 3, "vae": models["vae"], "latent_image": edit["latent_image"], "instruction": "make it red",
        "candidates": 2, "probe_steps": 1, "keep": 1, "mode": "resume", "panel": "right half",
        "judge": ScriptedJudge(fail),
    }  # fmt: skip
    by_name = {
        "model": models["model"], "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
        "denoise": 1.0, "positive": edit["positive"], "negative": edit["negative"],
    }  # fmt: skip
    by_parts = {"guider": guider, "sampler": method, "sigmas": sigmas}
    for node, inputs in (("EarlyFilterSampler", by_name), ("EarlyFilterSamplerAdvanced", by_parts)):
        prepared = nodes.NODE_CLASS_MAPPINGS[node].PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: node}})
        with torch.inference_mode():
            prepared.EXECUTE_NORMALIZED(**common, **inputs)
        ((told, text),) = said
        assert told == node
        assert "The judge scripted could not answer: TimeoutError: no answer within 60 s" in text
        assert "So the judge pixels chose" in text
        said.clear()


@pytest.mark.parametrize("instruction", ["", " \n"])
def test_a_judge_that_reads_the_instruction_needs_one(filtered, models, instruction):
    model, count = counting(models["model"])
    judge = ScriptedJudge(by_seed(s4=1.0), reads_instruction=True)
    with pytest.raises(ValueError, match=r"instruction is empty.*Connect the output instruction of Edit Instruction"):
        filtered(model=model, judge=judge, instruction=instruction)
    assert count[0] == 0
    # The pixel judge does not.
    filtered(model=model, instruction=instruction)


def test_judges_see_source_region_and_both_panels(filtered, models, host, edit):
    judge = ScriptedJudge(by_seed(s4=1.0))
    filtered(judge=judge)
    (question,), edits = judge.questions, judge.edits
    (source,) = host.call("VAEDecode", vae=models["vae"], samples={"samples": edit["latent_image"]["samples"]})
    assert torch.equal(question.source, source[0, :, :32])
    assert question.instruction == "make it red"
    assert question.region is None
    assert [entry.seed for entry in edits] == [3, 4, 5]
    # The mask keeps the left panel.
    assert torch.allclose(edits[0].left, question.source, atol=1e-3)
    assert float((edits[0].panel - question.source).abs().mean()) > 0.1
    assert edits[0].panel.shape == (32, 32, 3)


def test_a_mask_on_part_of_the_right_panel_is_the_region(filtered, edit):
    mask = torch.zeros(1, 1, 32, 64)
    mask[..., 8:24, 40:56] = 1.0
    judge = ScriptedJudge(by_seed(s4=1.0))
    filtered(judge=judge, latent_image=edit["latent_image"] | {"noise_mask": mask})
    assert torch.equal(judge.questions[0].region, mask[0, 0, :, 32:])


def test_a_given_source_is_fitted_to_the_panel(filtered):
    judge = ScriptedJudge(by_seed(s4=1.0))
    large = sources()[0].repeat_interleave(4, 0).repeat_interleave(4, 1)[None]
    filtered(judge=judge, source=large)
    assert torch.allclose(judge.questions[0].source, sources()[0], atol=1e-6)


def test_whole_pictures_of_an_edit_model(host, models, tmp_path):
    import folder_paths
    from safetensors.torch import save_file
    from support.tiny_stack import FluxShape, flux

    # FLUX.1 Kontext is a text-to-image FLUX that gets the picture as a reference latent.
    save_file(flux(FluxShape(in_features=64)), tmp_path / "tiny-kontext.safetensors")
    folder_paths.add_model_folder_path("diffusion_models", str(tmp_path))
    model, picture = host.load_model(name="tiny-kontext.safetensors"), sources()
    (latent,) = host.call("VAEEncode", pixels=picture, vae=models["vae"])
    (positive,) = host.call("ReferenceLatent", conditioning=conditioning(10), latent=latent)
    common = {
        "model": model, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "positive": positive,
        "negative": conditioning(20), "latent_image": latent, "denoise": 1.0,
    }  # fmt: skip
    filtered = {
        "vae": models["vae"], "instruction": "make it red", "candidates": 2, "probe_steps": 1, "keep": 1,
        "mode": "resume", "panel": "whole picture", "judge": (judge := ScriptedJudge(by_seed(s4=1.0))),
    }  # fmt: skip
    result, _, seed, _ = host.call("EarlyFilterSampler", **common, seed=3, **filtered, source=picture)
    assert torch.equal(result["samples"], host.call("KSampler", **common, seed=seed)[0]["samples"])
    assert torch.equal(judge.questions[0].source, picture[0])
    assert judge.edits[0].left is None
    assert judge.edits[0].panel.shape == (32, 32, 3)
    with pytest.raises(ValueError, match="connect that picture to source"):
        host.call("EarlyFilterSampler", **common, seed=3, **filtered)
