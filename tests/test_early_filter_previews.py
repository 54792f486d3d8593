"""Previews: as judges see them, ranked, and with captions."""

import pytest
import torch
from icedit.early_filter.captions import BORDER, WIDTH, WINNER, RankedPreview, ranked_previews
from icedit.early_filter.judge import Question, Verdict
from icedit.early_filter.judges.pixels import PixelJudge
from icedit.early_filter.stored_preview import Preview, joined, left_half, right_half
from support.filter_bench import Bench, picture, plan
from support.judges import ScriptedJudge, by_seed


def test_previews_are_ranked_and_say_what_became_of_each():
    outcome = Bench(plan()).run(ScriptedJudge(by_seed(s4=0.75, s2=0.5)))
    ranked = ranked_previews([outcome])
    assert [preview.lines for preview in ranked[:3]] == [
        ("#1  seed 4", "score 0.75", "winner"),
        ("#2  seed 2", "score 0.5", "left at step 8"),
        ("#3  seed 0", "score 0", "left at step 4"),
    ]
    assert [preview.seed for preview in ranked] == [4, 2, 0, 1, 3, 5]
    assert [preview.won for preview in ranked] == [True, *[False] * 5]
    for preview in ranked:
        assert float((preview.picture - picture(preview.seed)).abs().max()) < 0.001


def test_previews_of_a_batch_come_picture_by_picture_and_those_of_an_early_stop_are_fewer():
    whole = Bench(plan(candidates=3)).run(ScriptedJudge(by_seed(s1=1.0)))
    stopped = Bench(plan()).run(ScriptedJudge(lambda _: Verdict(0.5, passed=True), makes_checks=True), stop_early=True)
    ranked = ranked_previews([whole, stopped])
    assert [preview.lines[0] for preview in ranked] == ["#1  seed 1", "#2  seed 0", "#3  seed 2", "#1  seed 0"]
    assert [preview.lines[-1] for preview in ranked] == ["picture 1"] * 3 + ["picture 2"]


def test_captions_are_below_the_whole_picture_and_the_winner_s_on_green():
    outcome = Bench(plan()).run(ScriptedJudge(by_seed(s4=0.75)))
    winner, loser = ranked_previews([outcome])[:2]
    green = torch.tensor(WINNER[0]) / 255
    inside = slice(BORDER, WIDTH - BORDER)
    for preview in (winner, loser):
        shown = preview.captioned()
        assert shown.shape[1] == WIDTH
        assert torch.allclose(shown[0, 0], green) == preview.won
        assert abs(float(shown[inside, inside].mean() - preview.picture.mean())) < 0.01
        # Nothing is cut off: the frame runs along every side.
        for side in (shown[0], shown[-1], shown[:, 0], shown[:, -1]):
            assert torch.equal(side, shown[0, 0].expand_as(side))


def test_the_longest_lines_fit_below_any_picture():
    lines = (f"#64  seed {2**64 - 1}", f"like {2**64 - 1}", "left at step 10000", "picture 64")
    for height, width in ((16, 256), (256, 16), (1, 3000)):
        shown = RankedPreview(0, torch.ones(height, width, 3), lines, False).captioned()
        frame = torch.ones(shown.shape[:2], dtype=torch.bool)
        frame[BORDER:, BORDER:-BORDER] = False
        frame[-1] = True
        assert torch.equal(shown[frame], shown[0, 0].expand_as(shown[frame]))


def test_a_preview_that_is_no_picture_is_still_shown():
    outcome = Bench(plan(candidates=1, keep=1)).run(ScriptedJudge(by_seed()))
    outcome.previews[0].picture[:] = torch.nan
    (preview,) = ranked_previews([outcome])
    assert (preview.lines[1:], preview.picture.unique().tolist()) == (("not scored", "taken, unfiltered"), [0.0])


def test_an_edit_of_one_tile_is_not_taken_for_an_edit_that_did_nothing():
    """As it would be if its other tiles, in which there was nothing to change, were judged on their own."""
    source = picture(1).repeat_interleave(2, 0).repeat_interleave(2, 1)
    changed = source.clone()
    changed[40:80, 40:80] = 1 - changed[40:80, 40:80]
    panorama = Question(torch.cat([source, source], dim=1), "")
    edit = Preview(0, joined([changed, source]), joined([source, source]))
    (verdict,) = PixelJudge().score(panorama, [edit], lambda: None)
    (alone,) = PixelJudge().score(Question(source, ""), [Preview(0, source, source)], lambda: None)
    assert (verdict.broken, alone.broken) == (False, True)


def test_previews_of_a_dozen_large_diptychs_are_small():
    left = torch.rand(768, 512, 3)
    panels = [Preview(seed, torch.rand(768, 512, 3), left) for seed in range(12)]
    assert sum(preview.picture.untyped_storage().nbytes() for preview in panels) < 30e6
    assert panels[0].panel.shape == (768, 512, 3)
    assert panels[0].panel.dtype == panels[0].left.dtype == torch.float32


def test_tiles_are_judged_side_by_side():
    tiles = [torch.full((4, 3, 3), float(tile)) for tile in range(3)]
    edit = Preview(7, joined([tile + 0.5 for tile in tiles]), joined(tiles))
    assert edit.left[0, :, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert edit.panel[0, :, 0].tolist() == [0.5, 0.5, 0.5, 1.5, 1.5, 1.5, 2.5, 2.5, 2.5]


@pytest.mark.parametrize("width", [6, 7])
def test_the_halves_of_a_diptych_have_one_size(width):
    picture = torch.arange(width).expand(2, width)[..., None].expand(2, width, 3)
    left, right = left_half(picture), right_half(picture)
    assert left.shape == right.shape == (2, 3, 3)
    assert (left[0, 0, 0], right[0, -1, 0]) == (0, width - 1)
    assert torch.equal(right_half(picture.movedim(1, -1), -1).movedim(-1, 1), right)
