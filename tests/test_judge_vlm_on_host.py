"""The host's own vision-language models as judges, tiny ones with random weights or with a script."""

import pytest
import torch
from icedit.early_filter.judge import Candidate, Question
from support import tiny_vlm
from support.judges import FIRST, QUESTION, SECOND, poll
from support.pictures import photograph

pytestmark = pytest.mark.host


@pytest.fixture
def qwen(monkeypatch):
    """Loads the tiny Qwen3-VL; on hosts that do not know it there is nothing to test."""
    pytest.importorskip("comfy.text_encoders.qwen3vl", reason="this ComfyUI has no Qwen3-VL")
    return lambda **options: tiny_vlm.load_qwen(monkeypatch, **options)


@pytest.fixture(params=["qwen3vl", "gemma3"])
def babbler(request, host, monkeypatch):
    """A real model of the host with random weights."""
    if request.param == "gemma3":
        return tiny_vlm.load_gemma(monkeypatch)
    pytest.importorskip("comfy.text_encoders.qwen3vl", reason="this ComfyUI has no Qwen3-VL")
    return tiny_vlm.load_qwen(monkeypatch)


def shorten_answers(monkeypatch, judge):
    """Random weights never stop by themselves."""
    monkeypatch.setattr(judge.ask.__globals__["text_generation"], "MAX_TOKENS", 16)


def first_thoughts(monkeypatch, clip):
    """The scores of the first word of every answer to come."""
    from comfy.text_encoders.llama import BaseGenerate

    (writer,) = (module for module in clip.cond_stage_model.modules() if isinstance(module, BaseGenerate))
    logits, kept = writer.logits, []

    def keep(hidden):
        scores = logits(hidden)
        if hidden.shape[1] > 1:
            kept.append(scores.clone())
        return scores

    monkeypatch.setattr(writer, "logits", keep)
    return kept


def test_random_weights_on_the_host_answer_the_same_garbage_every_time(host, monkeypatch, babbler):
    (judge,) = host.call("EditJudgeVLM", clip=babbler, checks=True, swap_order=True)
    shorten_answers(monkeypatch, judge)
    edits = [Candidate(seed, photograph(seed, 48, 64)) for seed in (1, 2)]
    first = judge.compare(QUESTION, *edits, poll)
    assert first.choice.value in ("abstain", "tie")
    assert len(first.answers) == 2
    assert all(len(answer) > 10 for answer in first.answers)
    assert judge.compare(QUESTION, *edits, poll) == first
    verdicts = judge.score(QUESTION, edits, poll)
    assert all(len(verdict.answers) == 2 for verdict in verdicts)


def test_the_model_sees_every_picture(host, monkeypatch, babbler):
    """Gemma 3 looks at the middle square only: a wide composition would hide the outer pictures from it."""
    (judge,) = host.call("EditJudgeVLM", clip=babbler, checks=False, swap_order=False)
    shorten_answers(monkeypatch, judge)
    thought = first_thoughts(monkeypatch, babbler)
    pictures = [photograph(seed, 48, 64) for seed in range(3)]
    for hidden in (None, 0, 1, 2, None):
        shown = [torch.zeros(48, 64, 3) if index == hidden else picture for index, picture in enumerate(pictures)]
        judge.compare(Question(shown[0], "x"), Candidate(1, shown[1]), Candidate(2, shown[2]), poll)
    everything, *partly, again = thought
    assert torch.equal(everything, again)
    assert all((everything - other).abs().max() > 1e-5 for other in partly)


def test_a_model_that_always_says_one_wins_nothing_when_asked_in_both_orders(host, qwen):
    clip = qwen(script=["ANS", "WER", ":", " ", "1"])
    (judge,) = host.call("EditJudgeVLM", clip=clip, checks=False, swap_order=False)
    assert judge.compare(QUESTION, FIRST, SECOND, poll).choice.value == "first"
    (judge,) = host.call("EditJudgeVLM", clip=clip, checks=False, swap_order=True)
    preference = judge.compare(QUESTION, FIRST, SECOND, poll)
    assert preference.choice.value == "tie"
    assert preference.answers == ("ANSWER: 1", "ANSWER: 1")


def test_checks_on_the_host(host, qwen):
    clip = qwen(script=["1", " yes", "\n", "2", " Yes", ",", "3", ":", " no", ";", "4", " ", "YES"])
    (judge,) = host.call("EditJudgeVLM", clip=clip, checks=True, swap_order=True)
    assert "qwen3vl" in judge.name
    (verdict,) = judge.score(QUESTION, [FIRST], poll)
    assert (verdict.score, verdict.passed) == (3.0, False)
    assert verdict.answers[1] == "1 yes\n2 Yes,3: no;4 YES"
    assert "general ones" in verdict.reasons[-1]


def test_poll_is_called_before_every_question(host, monkeypatch, qwen):
    (judge,) = host.call("EditJudgeVLM", clip=qwen(), checks=False, swap_order=True)
    shorten_answers(monkeypatch, judge)
    calls = []

    def interrupt():
        calls.append(None)
        if len(calls) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        judge.compare(QUESTION, FIRST, SECOND, interrupt)
    assert len(calls) == 2


def test_an_interrupt_stops_an_answer_in_the_middle(host, monkeypatch, babbler):
    """The server's progress hook looks for interrupts; nothing of ours keeps it from being called."""
    import comfy.utils
    from comfy import model_management

    words = []

    def hook(value, *_, **__):
        words.append(value)
        if len(words) == 2:
            model_management.interrupt_current_processing()
        model_management.throw_exception_if_processing_interrupted()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0.0, raising=False)
    (judge,) = host.call("EditJudgeVLM", clip=babbler, checks=False, swap_order=True)
    shorten_answers(monkeypatch, judge)
    with pytest.raises(model_management.InterruptProcessingException):
        judge.compare(QUESTION, FIRST, SECOND, poll)
    assert len(words) == 2


def test_models_that_cannot_write_or_see_are_refused_at_the_node(host, qwen):
    with pytest.raises(ValueError, match=r"cannot generate text.*Qwen3-VL.*Server"):
        host.call("EditJudgeVLM", clip=host.load_clip(), checks=True, swap_order=True)
    with pytest.raises(ValueError, match="clip is empty"):
        host.call("EditJudgeVLM", clip=None, checks=True, swap_order=True)
    # The same file loaded for FLUX.2 is a text encoder without its eyes.
    with pytest.raises(ValueError, match="not about pictures"):
        host.call("EditJudgeVLM", clip=qwen(clip_type="FLUX2"), checks=True, swap_order=True)
