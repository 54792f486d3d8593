"""The run that stops at the first candidate that passes the judge's checks."""

from icedit.early_filter.captions import ranked_previews
from icedit.early_filter.judge import JudgeError, Verdict
from icedit.early_filter.judges.pixels import PixelJudge
from icedit.early_filter.judges.vlm import VLMJudge
from support.filter_bench import Bench, fails, plan
from support.judges import ScriptedJudge, by_seed


def test_early_stop_at_the_first_that_passes():
    bench = Bench(plan())
    judge = ScriptedJudge(lambda edit: Verdict(0.5, passed=edit.seed >= 2), makes_checks=True)
    outcome = bench.run(judge, stop_early=True)
    assert outcome.winner == 2
    assert outcome.stopped_early
    assert judge.scored == [(0,), (1,), (2,)]
    assert bench.done == 3 * 4 + 24 == bench.totals[-1]
    assert [preview.seed for preview in ranked_previews([outcome])] == [2, 0, 1]


def test_early_stop_costs_nothing_where_the_judge_makes_no_checks():
    judge = ScriptedJudge(by_seed(s3=1.0))
    outcome = Bench(plan()).run(judge, stop_early=True)
    assert judge.scored == [(0, 1, 2, 3, 4, 5), (3, 0)]
    assert outcome.winner == 3


def test_early_stop_outlives_an_answer_that_cannot_be_read_and_one_that_did_not_come():
    def verdict(edit):
        if edit.seed == 1:
            raise JudgeError("no answer within 120 s")
        return Verdict() if edit.seed == 0 else Verdict(0.5, passed=edit.seed == 3)

    bench = Bench(plan())
    judge = ScriptedJudge(verdict, makes_checks=True)
    outcome = bench.run(judge, stop_early=True)
    assert (outcome.winner, outcome.stopped_early) == (3, True)
    assert judge.scored == [(0,), (1,), (2,), (3,)]
    assert bench.done == 4 * 4 + 24


def test_early_stop_does_not_wait_for_a_judge_that_is_gone():
    judge = ScriptedJudge(fails, makes_checks=True)
    Bench(plan()).run(judge, PixelJudge(), stop_early=True)
    # Two are tried one by one in each look, then all together.
    assert judge.scored[:3] == [(0,), (1,), (0, 1, 2, 3, 4, 5)]


def test_only_a_vision_language_model_with_checks_makes_checks():
    assert VLMJudge("model", lambda *_: []).makes_checks
    assert not VLMJudge("model", lambda *_: [], checks=False).makes_checks
    assert not PixelJudge().makes_checks


def test_early_stop_when_nobody_passes_ranks_all_together():
    judge = ScriptedJudge(lambda edit: Verdict(float(edit.seed), passed=False), makes_checks=True)
    bench = Bench(plan())
    assert bench.run(judge, stop_early=True).winner == 5
    assert judge.scored[6] == (0, 1, 2, 3, 4, 5)
    assert bench.done == 52
