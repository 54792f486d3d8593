"""Every judge in the sampler, on the real host with the tiny stack: what it says arrives in the report."""

import json

import pytest
import torch
from icedit.early_filter.judges.api_key import KEY_VARIABLE
from support import tiny_clip, tiny_vlm
from support.chat_server import ChatServer, Reply, says
from support.pictures import photograph

pytestmark = pytest.mark.host
CANARY = "sk-canary-9a27e0"


@pytest.fixture(scope="module")
def edit(host):
    """The sampler's inputs for one edit."""
    clip, vae = host.load_clip(), host.load_vae()
    diptych, mask, *_ = host.call(
        "DiptychCreate", image="None", image_input=photograph(1, 64, 64)[None], panel_width=64
    )
    positive, _, instruction = host.call("InContextEditInstruction", editText="make it grey", clip=clip)
    (negative,) = host.call("ConditioningZeroOut", conditioning=positive)
    positive, negative, latent = host.call(
        "ICEFConditioning", In_context=positive, negative=negative, vae=vae, diptych=diptych, maskDiptych=mask
    )
    return {
        "model": host.load_model(), "seed": 5, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
        "positive": positive, "negative": negative, "latent_image": latent, "denoise": 1.0, "vae": vae,
        "instruction": instruction, "candidates": 2, "probe_steps": 1, "keep": 1, "mode": "resume",
        "panel": "right half",
    }  # fmt: skip


def filtered(host, edit, judge):
    """The winner's seed and the report of a run with this judge."""
    with torch.inference_mode():
        _, previews, seed, report = host.call("EarlyFilterSampler", **edit, judge=judge)
    assert previews.ndim == 4
    return seed, report


def test_pixels(host, edit):
    (judge,) = host.call("EditJudgePixels")
    seed, report = filtered(host, edit, judge)
    assert seed in (5, 6)
    assert '"pixels"' in report


def test_clip(host, edit, tmp_path):
    import folder_paths

    tiny_clip.write_clip(tmp_path / "tiny")
    kept = list(folder_paths.folder_names_and_paths["clip_vision"][0])
    folder_paths.add_model_folder_path("clip_vision", str(tmp_path))
    weights = {"text_weight": 1.0, "source_weight": 0.5, "direction_weight": 0.5}
    (judge,) = host.call("EditJudgeCLIP", model_name="tiny", **weights)
    folder_paths.folder_names_and_paths["clip_vision"][0][:] = kept
    _, report = filtered(host, edit, judge)
    assert '"CLIP tiny"' in report
    assert "direction" in report


def test_a_vision_language_model_of_the_host(host, edit, monkeypatch):
    pytest.importorskip("comfy.text_encoders.qwen3vl", reason="this ComfyUI has no Qwen3-VL")
    clip = tiny_vlm.load_qwen(monkeypatch, script=["ANS", "WER", ":", " ", "2"])
    (judge,) = host.call("EditJudgeVLM", clip=clip, checks=False, swap_order=False)
    seed, report = filtered(host, edit, judge)
    assert seed == 6
    assert "ANSWER: 2" in report


def test_a_server_with_a_key(host, edit, monkeypatch, caplog, capfd):
    monkeypatch.setenv(KEY_VARIABLE, CANARY)
    with (
        caplog.at_level("DEBUG"),
        ChatServer(lambda _, call: says(f"{call.headers['Authorization']}\nANSWER: 2")) as server,
    ):
        (judge,) = host.call("EditJudgeEndpoint", base_url=server.url, model="m", checks=False, swap_order=False)
        seed, report = filtered(host, edit, judge)
        assert seed == 6
        assert server.calls[0].headers["Authorization"] == f"Bearer {CANARY}"
    assert "ANSWER: 2" in json.dumps(json.loads(report))
    assert CANARY not in report + caplog.text + "".join(capfd.readouterr())


def test_a_server_that_fails_leaves_the_choice_to_the_pixels(host, edit, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, CANARY)
    with ChatServer(lambda _, call: Reply(f"who is {call.headers['Authorization']}?".encode(), 403)) as server:
        (judge,) = host.call("EditJudgeEndpoint", base_url=server.url, model="m", checks=True, swap_order=True)
        seed, report = filtered(host, edit, judge)
    assert seed in (5, 6)
    assert "refuses access (403)" in report
    assert '"pixels"' in report
    assert CANARY not in report
