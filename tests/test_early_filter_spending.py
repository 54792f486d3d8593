"""Candidates are added only while none is good enough."""

import json
import math

import pytest
from icedit.early_filter.judge import Verdict
from icedit.early_filter.judges.pixels import PixelJudge
from icedit.early_filter.plan import Plan, StopEarly
from icedit.early_filter.report import filter_report
from support.filter_bench import Bench, fails, plan
from support.judges import ScriptedJudge, by_seed


def report_of(outcome):
    return json.loads(filter_report([outcome], 0.0))


@pytest.mark.parametrize(("good", "tried"), [(0, 1), (1, 2), (5, 6)])
def test_the_first_with_the_score_is_enough(good, tried):
    bench, judge = Bench(plan()), ScriptedJudge(by_seed(**{f"s{good}": 0.8}))
    outcome = bench.run(judge, stop_early=StopEarly(0.8))
    assert (outcome.winner, outcome.stopped_early) == (good, True)
    assert judge.scored == [(seed,) for seed in range(tried)]
    spent = sum(outcome.evaluations.values())
    assert spent == tried * 4 + 24 + 1 and bench.done == spent - 1 == bench.totals[-1]
    told = report_of(outcome)
    planned = {"least": 29, "most": 54}
    assert told["stop_early"] == {"pass_score": 0.8, "planned_evaluations": planned, "candidates_tried": [tried]}
    assert told["pictures"][0]["why"] == ("It scored 0.8, which is enough, so the other candidates were not looked at.")


def test_below_the_score_all_are_tried_and_ranked():
    judge = ScriptedJudge(by_seed(s4=0.79))
    outcome = Bench(plan()).run(judge, stop_early=StopEarly(0.8))
    assert (outcome.winner, outcome.stopped_early) == (4, False)
    assert sum(outcome.evaluations.values()) == 54
    assert judge.scored[6] == (0, 1, 2, 3, 4, 5)


def test_the_second_look_stops_too():
    looks = {}

    def verdict(edit):
        looks[edit.seed] = looks.get(edit.seed, 0) + 1
        # Alone, with the others, and then alone again after more steps.
        return Verdict({3: 0.7, 1: 0.6}.get(edit.seed, 0.0) + (0.2 if looks[edit.seed] == 3 else 0.0))

    outcome = Bench(plan()).run(ScriptedJudge(verdict), stop_early=StopEarly(0.8))
    assert (outcome.winner, outcome.stopped_early) == (3, True)
    # The other one that was kept is not probed again.
    assert outcome.evaluations == {0: 4, 1: 4, 2: 4, 3: 28 + 2, 4: 4, 5: 4}


@pytest.mark.parametrize("verdict", [Verdict(), Verdict(math.nan), Verdict(0.9, broken=True), Verdict(broken=True)])
def test_an_edit_without_a_score_and_a_broken_one_are_not_good_enough(verdict):
    judge = ScriptedJudge(lambda edit: verdict if edit.seed < 2 else Verdict(0.9 if edit.seed == 2 else 0.1))
    outcome = Bench(plan()).run(judge, stop_early=StopEarly(0.5))
    assert (outcome.winner, outcome.stopped_early) == (2, True)


def test_a_judge_that_fails_never_decides():
    outcome = Bench(plan()).run(ScriptedJudge(fails), PixelJudge(), stop_early=StopEarly(0.01))
    assert not outcome.stopped_early
    assert outcome.looks[0].ranking.judge == "pixels"


def test_checks_and_score_both_pass():
    judge = ScriptedJudge(lambda edit: Verdict(3.0, passed=edit.seed == 1), makes_checks=True)
    assert Bench(plan()).run(judge, stop_early=StopEarly(5.0)).winner == 1
    assert Bench(plan()).run(judge, stop_early=StopEarly(3.0)).winner == 0


def test_one_that_looks_like_another_is_not_judged_again():
    judge = ScriptedJudge(by_seed(s2=1.0))
    bench = Bench(plan(), looks_like={1: 0})
    assert bench.run(judge, stop_early=StopEarly(1.0)).winner == 2
    assert judge.scored == [(0,), (2,)]


@pytest.mark.parametrize("score", [-1.0, math.inf, math.nan])
def test_a_threshold_that_is_none_is_refused(score):
    with pytest.raises(ValueError, match="pass_score is"):
        StopEarly(score)


def test_what_a_plan_takes_at_least():
    assert Plan("resume", 0, 6, 4, 2, 28).least_evaluations == 29
    assert Plan("resume", 0, 6, 28, 2, 28).least_evaluations == 28
    assert Plan("paper", 0, 6, 4, 2, 28).least_evaluations == 6 * 4 + 28


def test_mode_paper_does_not_stop_early():
    outcome = Bench(plan("paper")).run(ScriptedJudge(by_seed(s0=1.0)), stop_early=StopEarly(0.5))
    assert not outcome.stopped_early and "stop_early" not in report_of(outcome)
