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


def editscore(host, server):
    settings = {"checks": True, "swap_order": True, "parallel": 1, "style": "EditScore"}
    return host.call("EditJudgeEndpoint", base_url=server.url, model="m", **settings)[0]


@pytest.mark.parametrize(
    "first", ['{"reasoning": "x", "score": [3, 25]}', '{"reasoning": "score: [25, 25]", "score": ']
)
def test_editscore_marks_decide_and_an_answer_that_cannot_be_read_does_not(host, edit, first):
    answers = [first, '{"reasoning": "x", "score": [25, 2]}', '{"score": [5, 25]}', '{"score": [5, 25]}']
    with ChatServer(lambda number, _: says(answers[number])) as server:
        seed, report = filtered(host, edit, editscore(host, server))
    assert seed == 6
    assert "success 5, overediting 25, naturalness 5, artifacts 25 of 25" in report
    scores = [candidate["verdicts"][0]["score"] for candidate in json.loads(report)["pictures"][0]["candidates"]]
    assert scores[1] == 2.0
    assert ("0 of 1 votes give marks" in report) == (scores[0] is None)


def test_where_no_answer_can_be_read_the_pixels_choose(host, edit):
    with ChatServer(lambda *_: says("Both are perfect: 25 of 25!")) as server:
        _, report = filtered(host, edit, editscore(host, server))
    assert json.loads(report)["pictures"][0]["looks"][0]["judge"] == "pixels"


def test_an_edit_with_high_marks_ends_the_search(host, edit):
    with ChatServer(lambda *_: says('{"score": [22, 24]}')) as server:
        seed, report = filtered(host, edit | {"stop_early": True}, editscore(host, server))
        assert len(server.calls) == 2
    assert seed == 5
    assert "It passed every check" in report
