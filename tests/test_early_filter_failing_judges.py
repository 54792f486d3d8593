"""Judges that fail or have no opinion: who chooses in their place, and what users are told."""

import json

import pytest
from icedit.early_filter.captions import ranked_previews
from icedit.early_filter.judge import Choice, JudgeError, Verdict
from icedit.early_filter.judges.pixels import PixelJudge
from icedit.early_filter.notes import notes
from icedit.early_filter.report import filter_report
from support.filter_bench import Bench, fails, plan, prefer
from support.judges import ScriptedJudge, by_seed


@pytest.mark.parametrize("error", [JudgeError("no answer"), MemoryError("out of memory"), KeyError("choices")])
def test_a_failing_judge_hands_over_to_the_next(error):
    def fail(*_):
        raise error

    bench = Bench(plan())
    outcome = bench.run(ScriptedJudge(fail, fail), ScriptedJudge(by_seed(s4=1.0)))
    assert outcome.winner == 4
    assert outcome.filtered
    told = json.loads(filter_report([outcome], 0.0))["pictures"][0]
    # In each look the scores and two comparisons were tried, in the second one there is only one pair.
    assert [entry["asked"] for entry in told["failures"]] == ["score", "compare", "compare", "score", "compare"]
    assert all(str(error) in entry["error"] for entry in told["failures"])
    assert len(bench.failures) == 5


SAID = "The judge scripted could not answer: Cannot connect to localhost. Is the server running?"


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (ScriptedJudge(by_seed(s4=1.0)), []),
        (ScriptedJudge(fails, fails), [SAID, "So the judge pixels chose, which does not know what you asked for."]),
        (ScriptedJudge(fails, prefer(2, 0, 1, 3, 4, 5)), [SAID, "It chose by its other answers."]),
        (
            ScriptedJudge(choice=lambda *_: Choice.ABSTAIN),
            [
                "The judge scripted had no opinion.",
                "So the judge pixels chose, which does not know what you asked for.",
            ],
        ),
    ],
)
def test_users_are_told_once_who_chose_in_place_of_their_judge(judge, said):
    judges = (judge, PixelJudge())
    outcomes = [Bench(plan(seed=0)).run(*judges) for _ in range(2)]
    assert notes(outcomes, judges) == said


def test_users_are_told_that_the_model_changed_and_what_became_of_the_winner():
    judge = ScriptedJudge(by_seed(s4=1.0))
    outcomes = [Bench(plan(), changed=True).run(judge), Bench(plan()).run(judge)]
    (note,) = notes(outcomes, (judge,))
    assert "(seed 4)" in note
    assert note.endswith("it is what KSampler gives.")
    told = json.loads(filter_report(outcomes, 0.0))
    assert (told["exact"], [entry["model_changed"] for entry in told["pictures"]]) == (True, [True, False])
    assert told["pictures"][0]["run_afresh"]
    assert told["pictures"][0]["evaluations"] == {
        "spent": 32 + 1 + 28, "work": 61, "checks": 1, "no_filter": 28, "best_of_all": 168,
        "paper_scheme_same_probe": 52, "paper_scheme_10_steps": 88,
    }  # fmt: skip
    resumed = Bench(plan(), changed=True, afresh=False).run(judge)
    (note,) = notes([resumed], (judge,))
    assert "Set when_changed to 'run afresh'" in note
    told = json.loads(filter_report([resumed], 0.0))
    assert (told["exact"], told["evaluations"]["spent"]) == (False, 54)


def test_users_are_told_that_nobody_chose():
    judges = (ScriptedJudge(fails),)
    said = [SAID, "So nobody chose, and the candidate that came first was taken."]
    assert notes([Bench(plan()).run(*judges)], judges) == said


def test_comparisons_decide_when_only_scoring_fails():
    def fail(*_):
        raise JudgeError("garbage")

    assert Bench(plan()).run(ScriptedJudge(fail, prefer(2, 0, 1, 3, 4, 5))).winner == 2


def test_a_judge_with_too_few_verdicts_has_failed():
    class Short(ScriptedJudge):
        def score(self, question, edits, poll):
            return super().score(question, edits, poll)[1:]

    outcome = Bench(plan()).run(Short(by_seed(s3=1.0)))
    assert not outcome.filtered
    assert "5 verdicts for 6 edits" in outcome.failures[0][1].error


def test_when_nobody_can_judge_the_first_seed_is_taken_and_marked():
    def fail(*_):
        raise JudgeError("timeout")

    outcome = Bench(plan(seed=40)).run(ScriptedJudge(fail))
    told = json.loads(filter_report([outcome], 0.0))
    assert told["seeds"] == [40]
    assert told["filtered"] is False
    assert told["pictures"][0]["why"].startswith("Unfiltered: no judge had an opinion")
    assert ranked_previews([outcome])[0].lines[2] == "taken, unfiltered"


def test_the_first_looks_order_stands_when_the_second_look_fails():
    calls = []

    def once(edit):
        calls.append(edit.seed)
        if len(calls) > 6:
            raise JudgeError("gone")
        return Verdict(1.0 if edit.seed == 5 else 0.0)

    outcome = Bench(plan()).run(ScriptedJudge(once))
    assert outcome.winner == 5
    assert outcome.filtered
    assert outcome.looks[1].ranking.judge is None
