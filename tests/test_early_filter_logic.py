"""Plan, selection and run without a host: scripted judges, pictures made on the spot."""

import json

import pytest
import torch
from icedit.early_filter.budget import Budget
from icedit.early_filter.judge import Candidate, Choice, Verdict
from icedit.early_filter.judges.clip import CLIPJudge
from icedit.early_filter.judges.pixels import PixelJudge
from icedit.early_filter.judges.vlm import VLMJudge
from icedit.early_filter.plan import Look
from icedit.early_filter.report import filter_report
from icedit.early_filter.similar import duplicates
from support.filter_bench import NOTHING, Bench, Interrupt, picture, plan, prefer
from support.judges import ScriptedJudge, by_seed


@pytest.mark.parametrize(
    ("changes", "steps", "checks"),
    [
        ({}, 6 * 4 + 2 * 4 + 20, 2),
        ({"keep": 1}, 6 * 4 + 24, 1),
        ({"keep": 6}, 6 * 8 + 20, 1),
        ({"candidates": 1, "keep": 1}, 28, 1),
        ({"candidates": 1}, 28, 1),
        ({"candidates": 4, "keep": 64}, 4 * 8 + 20, 1),
        ({"probe_steps": 28}, 6 * 28, 0),
        ({"mode": "paper"}, 52, 0),
        ({"mode": "paper", "probe_steps": 10}, 88, 0),
        ({"mode": "paper", "probe_steps": 10, "candidates": 12, "steps": 50}, 170, 0),
    ],
)
def test_the_budget_is_spent_exactly(changes, steps, checks):
    bench = Bench(plan(**changes))
    scores = ScriptedJudge(by_seed(s3=1.0, s0=0.9))
    outcome = bench.run(scores)
    assert bench.plan.most_steps == steps == bench.done
    assert bench.plan.checks == checks == outcome.finished.checks
    assert bench.plan.most_evaluations == steps + checks == sum(outcome.evaluations.values())
    # One bar: its end never moves when nobody leaves early.
    assert set(bench.totals) == {steps}


def test_other_schemes_are_reported_with_the_papers_numbers():
    bench = Bench(plan())
    told = json.loads(filter_report([bench.run(ScriptedJudge(by_seed(s3=1.0)))], 1.5))
    assert told["evaluations"] == {
        "spent": 54, "work": 54, "checks": 2, "no_filter": 28, "best_of_all": 168,
        "paper_scheme_same_probe": 52, "paper_scheme_10_steps": 88,
    }  # fmt: skip
    assert set(told["seconds"]) == {"sampling", "decoding", "judging", "total"}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"keep": 0}, "keep is 0"),
        ({"candidates": 0}, "candidates is 0"),
        ({"probe_steps": 29}, "only 28 steps"),
        ({"steps": 0}, "no steps"),
        ({"mode": "fast"}, "'fast'"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes, word):
    with pytest.raises(ValueError, match=word):
        plan(**changes)


def test_seeds_count_on_past_the_last_one():
    assert plan(seed=2**64 - 2, candidates=4).seeds == (2**64 - 2, 2**64 - 1, 0, 1)


def test_the_second_look_can_overrule_the_first():
    first = {0: 0.1, 1: 0.9, 2: 0.8, 3: 0.2, 4: 0.0, 5: 0.0}
    bench = Bench(plan())
    judge = ScriptedJudge(lambda edit: Verdict(first[edit.seed] if bench.reached[edit.seed] == 4 else edit.seed))
    outcome = bench.run(judge)
    assert [look.kept for look in outcome.looks] == [(1, 2), (2,)]
    assert judge.scored == [(0, 1, 2, 3, 4, 5), (1, 2)]
    assert outcome.result == "sample 2"


def test_losers_are_forgotten_at_once():
    bench = Bench(plan())
    held = []
    judge = ScriptedJudge(lambda edit: held.append(set(bench.held)) or Verdict(edit.seed))
    bench.run(judge)
    assert held[-1] == {4, 5}


def test_pairs_are_compared_only_where_scores_leave_it_open():
    scores = {0: 1.0, 1: 2.0, 2: 1.0, 3: 0.0, 4: 1.0, 5: 0.0}
    judge = ScriptedJudge(lambda edit: Verdict(scores[edit.seed]), prefer(4, 0, 2, 1, 3, 5))
    outcome = Bench(plan()).run(judge)
    # Seed 1 is above the cut, 3 and 5 below it; 0, 2 and 4 contend for one place.
    assert judge.compared == [(0, 2), (0, 4)]
    assert outcome.looks[0].kept == (1, 4)
    assert outcome.winner == 1


def test_without_scores_the_best_two_are_found_by_comparing_and_no_pair_is_asked_twice():
    judge = ScriptedJudge(choice=prefer(4, 1, 5, 0, 2, 3))
    outcome = Bench(plan()).run(judge)
    assert outcome.looks[0].kept == (4, 1)
    first_look = judge.compared[:-1]
    assert len(set(first_look)) == len(first_look) == 6
    assert judge.compared[-1] == (4, 1)


@pytest.mark.parametrize("choice", [Choice.TIE, Choice.ABSTAIN])
def test_ties_and_abstentions_keep_the_earlier_seed(choice):
    outcome = Bench(plan()).run(ScriptedJudge(choice=lambda *_: choice))
    assert outcome.winner == 0
    assert outcome.filtered is (choice is Choice.TIE)


def test_a_later_seed_wins_by_being_second_or_first_in_the_question():
    later = ScriptedJudge(choice=prefer(5, 4, 3, 2, 1, 0))
    assert Bench(plan(keep=1)).run(later).winner == 5
    earlier = ScriptedJudge(choice=prefer(0, 1, 2, 3, 4, 5))
    assert Bench(plan(keep=1)).run(earlier).winner == 0


def test_broken_edits_come_last_and_unscored_ones_before_them():
    verdicts = [
        Verdict(9.0, broken=True),
        Verdict(None),
        Verdict(0.1),
        Verdict(float("nan")),
        Verdict(0.2),
        Verdict(0.0),
    ]
    outcome = Bench(plan()).run(ScriptedJudge(lambda edit: verdicts[edit.seed]))
    assert outcome.looks[0].ranking.order == (4, 2, 5, 1, 3, 0)
    assert outcome.looks[0].ranking.verdicts[3].reasons == ("the score was nan",)


def test_paper_mode_is_one_running_maximum():
    judge = ScriptedJudge(by_seed(s5=9.0), prefer(3, 5, 0, 4, 1, 2))
    outcome = Bench(plan("paper")).run(judge)
    assert judge.compared == [(0, 1), (0, 2), (0, 3), (3, 4), (3, 5)]
    assert judge.scored == []
    assert outcome.winner == 3
    assert outcome.finished.full_run == 28


def test_paper_mode_takes_scores_where_a_judge_cannot_compare():
    assert Bench(plan("paper")).run(ScriptedJudge(by_seed(s2=1.0))).winner == 2


def test_judges_say_whether_they_read_the_instruction():
    assert not PixelJudge().reads_instruction
    assert VLMJudge("model", lambda *_: []).reads_instruction
    assert CLIPJudge(None, text=1.0, source=0.5, direction=0.0).reads_instruction
    assert not CLIPJudge(None, text=0.0, source=1.0, direction=0.0).reads_instruction


def test_an_interrupt_ends_the_run_while_judging():
    bench = Bench(plan())

    def press(edit):
        bench.interrupted = True
        return Verdict(1.0)

    judge = ScriptedJudge(press, prefer(0, 1, 2, 3, 4, 5))
    with pytest.raises(Interrupt):
        bench.run(judge)
    assert judge.compared == []
    assert bench.done == 24


def test_look_alikes_are_judged_once_and_leave():
    bench = Bench(plan(), looks_like={2: 1, 3: 1, 5: 0})
    judge = ScriptedJudge(by_seed(s1=1.0, s4=0.5))
    outcome = bench.run(judge)
    assert judge.scored == [(0, 1, 4), (1, 4)]
    assert outcome.looks[0].twins == {2: 1, 3: 1, 5: 0}
    told = json.loads(filter_report([outcome], 0.0))["pictures"][0]["candidates"][3]
    assert (told["looks_like_seed"], told["left_at_step"]) == (1, 4)


def test_when_all_look_alike_nobody_is_asked():
    bench = Bench(plan(), looks_like=dict.fromkeys(range(6), 7))
    judge = ScriptedJudge(by_seed(s1=1.0))
    outcome = bench.run(judge)
    assert (outcome.winner, outcome.filtered, judge.scored) == (0, False, [])
    assert bench.done == 24 + 24
    # The bar's end came nearer when the others left.
    assert bench.totals == [52, 48]


def test_a_small_change_makes_no_look_alike_and_noise_does():
    base = picture(1).repeat_interleave(4, 0).repeat_interleave(4, 1)
    patched, noisy = base.clone(), base + 0.01 * torch.randn(base.shape, generator=torch.Generator().manual_seed(2))
    patched[40:50, 40:50] = 1 - patched[40:50, 40:50]
    nan = base.clone()
    nan[0, 0] = torch.nan
    edits = [
        Candidate(0, base),
        Candidate(1, patched),
        Candidate(2, noisy),
        Candidate(3, nan),
        Candidate(4, nan.clone()),
    ]
    assert duplicates(edits) == {2: 0}


def test_one_candidate_is_not_judged():
    judge = ScriptedJudge(by_seed())
    outcome = Bench(plan(candidates=1, keep=1)).run(judge)
    assert (outcome.winner, outcome.filtered, judge.scored) == (0, False, [])
    assert "only one candidate" in json.loads(filter_report([outcome], 0.0))["pictures"][0]["why"]


def test_keeping_all_candidates_looks_once_and_later():
    assert plan(keep=6).looks == (Look(8, 1),)
    judge = ScriptedJudge(by_seed(s4=1.0))
    assert Bench(plan(keep=6)).run(judge).winner == 4
    assert len(judge.scored) == 1


def test_one_budget_for_the_pictures_of_a_batch_and_the_tiles_of_each():
    def steps(count):
        for _ in range(count):
            budget.step(NOTHING, NOTHING)

    budget = Budget(plan(), 3, lambda *_: None)
    assert budget.total == 3 * 52
    budget.begin_picture(2)
    steps(2 * 4)
    # The first of six candidates passes every check, in both tiles.
    budget.candidates_left(1, 1)
    assert budget.total == 2 * 28 + 52
    steps(2 * 24)
    budget.repeat(2 * 4)
    steps(2 * 4)
    budget.begin_picture(1)
    budget.candidates_left(6, 0)
    assert budget.total == 2 * (28 + 4) + 52
