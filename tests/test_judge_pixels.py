import pytest
import torch
from icedit.early_filter.judge import Candidate, Question
from icedit.early_filter.judges.pixels import PixelJudge
from support.pictures import photograph, preview, with_object


def judged(question, *panels, left=None):
    edits = [Candidate(seed, panel, left) for seed, panel in enumerate(panels)]
    return PixelJudge().score(question, edits, lambda: None)


def region(top, left, size, height=512, width=512):
    mask = torch.zeros(height, width)
    mask[top : top + size, left : left + size] = 1
    return mask


SOURCE = photograph(1)
EDITED = with_object(SOURCE, 150, 200, 120)


@pytest.mark.parametrize(
    ("panel", "left", "reason"),
    [
        (preview(SOURCE), None, "nothing has changed on the right"),
        (preview(SOURCE, blur=8, shift=0.05), None, "nothing has changed on the right"),
        (torch.full_like(SOURCE, 0.4), None, "flat"),
        (preview(0.5 + 0.05 * (SOURCE - 0.5), noise=0.05), None, "flat"),
        (torch.full_like(SOURCE, torch.nan), None, "NaN"),
        (torch.where(torch.arange(512)[:, None, None] == 3, torch.inf, EDITED), None, "NaN or infinite"),
        (preview(photograph(2)), None, "another picture"),
        (preview(EDITED), preview(photograph(3)), "left panel is not the source"),
        (preview(EDITED), torch.full_like(SOURCE, torch.nan), "left panel holds NaN"),
        (preview(EDITED), with_object(SOURCE, 0, 0, 200), "left panel is not the source"),
    ],
)
def test_broken_edits_are_refused_with_their_reason(panel, left, reason):
    (verdict,) = judged(Question(SOURCE, "add a box"), panel, left=left)
    assert verdict.broken
    assert verdict.score is None
    assert reason in verdict.reasons[0]


@pytest.mark.parametrize(
    "panel",
    [
        preview(EDITED),
        preview(EDITED, blur=8, noise=0.06, shift=0.05),
        preview(with_object(SOURCE, 300, 100, 20)),
        preview(with_object(SOURCE, 20, 20, 300)),
        preview(SOURCE * torch.tensor([0.3, 0.35, 0.6])),
        preview(SOURCE.mean(dim=-1, keepdim=True).expand(-1, -1, 3) * torch.tensor([1.0, 0.85, 0.6])),
        preview(SOURCE + 0.12),
        preview(SOURCE * 0.9 + 0.12, shift=0.0, blur=2),
    ],
    ids=["object", "blurry", "small", "large", "night", "sepia", "brighter", "a little brighter"],
)
def test_real_edits_pass(panel):
    (verdict,) = judged(Question(SOURCE, "edit"), panel, left=preview(SOURCE, blur=0.5, noise=0.01))
    assert not verdict.broken, verdict.reasons
    assert verdict.score is not None


def test_different_photographs_are_never_taken_for_edits():
    sources = [photograph(seed, 256, 256) for seed in range(10, 18)]
    for index, source in enumerate(sources):
        others = [preview(other) for other in sources[index + 1 :]]
        for verdict in judged(Question(source, "edit"), *others):
            assert verdict.broken, verdict.reasons


def test_with_a_region_damage_outside_it_costs_in_proportion():
    damage = [0, 40, 80, 160]
    panels = [preview(with_object(EDITED, 400 - size, 10, size, 0.2) if size else EDITED, 5) for size in damage]
    scores = [verdict.score for verdict in judged(Question(SOURCE, "edit", region(150, 200, 120)), *panels)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)
    assert scores[0] > 0.9


def test_with_a_region_what_happens_inside_does_not_count():
    tame, wild = preview(with_object(SOURCE, 170, 220, 60, 0.15)), preview(EDITED)
    tame, wild = judged(Question(SOURCE, "edit", region(150, 200, 120)), tame, wild)
    assert tame.score == pytest.approx(wild.score, abs=0.02)


def test_with_a_region_changes_elsewhere_are_no_edit():
    elsewhere = preview(with_object(SOURCE, 20, 20, 80))
    (verdict,) = judged(Question(SOURCE, "edit", region(300, 300, 100)), elsewhere)
    assert verdict.broken
    assert "nothing has changed in the region" in verdict.reasons[0]


def test_with_a_region_the_rest_must_be_the_same_scene():
    other = photograph(4)
    other[150:270, 200:320] = EDITED[150:270, 200:320]
    (verdict,) = judged(Question(SOURCE, "edit", region(150, 200, 120)), preview(other))
    assert verdict.broken
    assert "outside the region" in verdict.reasons[0]


@pytest.mark.parametrize("mask", [torch.zeros(512, 512), torch.ones(512, 512)], ids=["empty", "everything"])
def test_a_region_that_says_nothing_is_ignored(mask):
    panels = [preview(EDITED), preview(with_object(EDITED, 10, 10, 90))]
    assert judged(Question(SOURCE, "edit", mask), *panels) == judged(Question(SOURCE, "edit"), *panels)


def test_without_a_region_the_usual_edit_beats_the_timid_and_the_wild_one():
    usual = [preview(with_object(SOURCE, 150, 200 + shift, 150), shift) for shift in (0, 4, 8)]
    # Sharper previews: what they keep is kept better, so that only the size of the change speaks against them.
    timid = preview(with_object(SOURCE, 150, 200, 24), 7, blur=3)
    wild = preview(with_object(with_object(SOURCE, 150, 200, 150), 330, 20, 170), 8, blur=3)
    verdicts = judged(Question(SOURCE, "edit"), *usual, timid, wild)
    scores = [verdict.score for verdict in verdicts]
    assert min(scores[:3]) > max(scores[3:])


def test_without_a_region_drift_around_the_edit_costs():
    drifting = torch.lerp(EDITED, photograph(5), 0.15)
    clean, drifted = judged(Question(SOURCE, "edit"), preview(EDITED, 1), preview(drifting, 2))
    assert clean.score > drifted.score + 0.1


def test_a_small_global_shift_and_noise_hardly_move_the_score():
    plain = preview(EDITED, blur=2, noise=0.0, shift=0.0)
    rough = preview(EDITED, blur=2, noise=0.08, shift=0.05)
    first, second = judged(Question(SOURCE, "edit", region(150, 200, 120)), plain, rough)
    assert first.score == pytest.approx(second.score, abs=0.03)


def test_sizes_need_not_agree():
    """Models of whole pictures answer in their own size."""
    smaller = torch.nn.functional.interpolate(EDITED.permute(2, 0, 1)[None], size=(384, 400), mode="area")[0]
    (verdict,) = judged(Question(SOURCE, "edit", region(75, 100, 60, 256, 256)), preview(smaller.permute(1, 2, 0)))
    assert not verdict.broken
    assert verdict.score > 0.8


def test_interrupts_come_through_between_edits():
    calls = []

    def poll():
        calls.append(None)
        if len(calls) == 2:
            raise InterruptedError

    edits = [Candidate(seed, EDITED) for seed in range(4)]
    with pytest.raises(InterruptedError):
        PixelJudge().score(Question(SOURCE, "edit"), edits, poll)
    assert len(calls) == 2
