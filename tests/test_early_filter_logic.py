"""Plan, selection and run without a host: scripted judges, pictures made on the spot."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from icedit.early_filter.budget import Budget
from icedit.early_filter.captions import BORDER, WIDTH, WINNER, RankedPreview, ranked_previews
from icedit.early_filter.judge import Candidate, Choice, JudgeError, Verdict
from icedit.early_filter.judges.clip import CLIPJudge
from icedit.early_filter.judges.pixels import PixelJudge
from icedit.early_filter.judges.vlm import VLMJudge
from icedit.early_filter.notes import notes
from icedit.early_filter.plan import Look, Plan, StopEarly
from icedit.early_filter.report import filter_report
from icedit.early_filter.run import EarlyFilter, Finished, Outcome, PictureSampler
from icedit.early_filter.select import Failure
from icedit.early_filter.similar import duplicates
from icedit.early_filter.stored_preview import Preview, joined, left_half, right_half
from support.judges import Question, ScriptedJudge, by_seed

NOTHING = torch.empty(0)


class Interrupt(BaseException):
    pass


@dataclass
class Bench(PictureSampler[str]):
    """Samples and decodes by noting it: a seed's picture is grey noise of its own, one step costs one evaluation, and
    what was probed is checked once for each look."""

    plan: Plan
    changed: bool = False
    afresh: bool = True
    looked_at: dict[int, int] = field(default_factory=dict)
    looks_like: dict[int, int] = field(default_factory=dict)
    reached: dict[int, int] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    shown: list[tuple[int, ...]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    totals: list[int] = field(default_factory=list)
    interrupted: bool = False
    interrupts = (Interrupt,)

    def __post_init__(self) -> None:
        self.budget = Budget(self.plan, 1, self.show)

    def probe(self, seed: int, step: int) -> int:
        self.held.add(seed)
        before, self.reached[seed] = self.reached.get(seed, 0), step
        self.looked_at[seed] = self.looked_at.get(seed, 0) + 1
        self.sample(step - before)
        return step - before

    def previews(self, seeds: Sequence[int]) -> list[Candidate]:
        self.shown.append(tuple(seeds))
        return [Preview(seed, picture(self.looks_like.get(seed, seed))) for seed in seeds]

    def finish(self, seed: int) -> Finished[str]:
        steps, checks, changed = self.plan.steps, 0, False
        if self.plan.mode == "resume" and self.reached[seed] < steps:
            checks, changed = 1 if self.changed and self.afresh else self.looked_at[seed], self.changed
        afresh = changed and self.afresh
        done = steps - (self.reached[seed] if self.plan.mode == "resume" and not afresh else 0)
        self.sample(done)
        return Finished(f"sample {seed}", done + checks, steps, checks, changed, afresh)

    def poll(self) -> None:
        if self.interrupted:
            raise Interrupt

    def forget(self, seed: int) -> None:
        self.held.discard(seed)

    def judgement_failed(self, failure: Failure) -> None:
        self.failures.append(failure.error)

    def sample(self, steps: int) -> None:
        for _ in range(steps):
            self.budget.step(NOTHING, NOTHING)

    def show(self, done: int, x0: torch.Tensor, x: torch.Tensor, total: int) -> None:
        if total not in self.totals:
            self.totals.append(total)

    @property
    def done(self) -> int:
        return self.budget.done

    def run(self, *judges: ScriptedJudge, stop_early: bool | StopEarly = False) -> Outcome[str]:
        self.budget.begin_picture(1)
        question = Question(picture(99), "make it red")
        stop = StopEarly() if stop_early is True else stop_early or None
        return EarlyFilter(self.plan, self, judges, question, self.budget, stop).run()


def picture(seed: int) -> torch.Tensor:
    coarse = torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(seed))
    return coarse.repeat_interleave(8, 0).repeat_interleave(8, 1)


def plan(mode="resume", seed=0, candidates=6, probe_steps=4, keep=2, steps=28) -> Plan:
    return Plan(mode, seed, candidates, probe_steps, keep, steps)


def prefer(*order: int):
    """Compares by a fixed order of seeds, best first."""
    return lambda first, second: Choice.FIRST if order.index(first.seed) < order.index(second.seed) else Choice.SECOND


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


def fails(*_):
    raise JudgeError("Cannot connect to localhost. Is the server running?")


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


def test_judges_say_whether_they_read_the_instruction():
    assert not PixelJudge().reads_instruction
    assert VLMJudge("model", lambda *_: []).reads_instruction
    assert CLIPJudge(None, text=1.0, source=0.5, direction=0.0).reads_instruction
    assert not CLIPJudge(None, text=0.0, source=1.0, direction=0.0).reads_instruction


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
