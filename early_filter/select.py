"""Ranks edits by the verdicts of judges. A judge that fails or has no opinion never ends the run."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TypeVar

from .judge import Candidate, Choice, Judge, JudgeError, Poll, Preference, Question, Verdict

GIVE_UP = 2
"""After so many failed comparisons in a row a judge is not asked for more in this look: each may be a long timeout."""

Interrupts = tuple[type[BaseException], ...]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Comparison:
    """A judge's choice between the edits of two seeds."""

    judge: str
    first: int
    second: int
    preference: Preference


@dataclass(frozen=True)
class Failure:
    """A judge that could not give a verdict; `asked` is "score" or "compare"."""

    judge: str
    asked: str
    seeds: tuple[int, ...]
    error: str


@dataclass(frozen=True)
class Ranking:
    """Seeds, best first. `judge` names who decided; None when no judge had an opinion and the order is as given."""

    order: tuple[int, ...]
    judge: str | None
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    failures: tuple[Failure, ...] = ()


def rank(
    judges: Sequence[Judge],
    question: Question,
    edits: Sequence[Candidate],
    keep: int,
    poll: Poll,
    interrupts: Interrupts,
    pairwise: bool = False,
) -> Ranking:
    """Rank edits so that the first `keep` are the best; the first judge with an opinion decides.

    Edits are ordered by their scores. Those with the same score, or without one, are compared in pairs, but only when
    some of them would be kept and others not. Broken edits come last. Equal ones stay in the given order.

    Args:
        judges: in order; one is asked only when those before it had no opinion.
        poll: raises when the user interrupts.
        interrupts: exceptions that end the run; any other one counts as a failed judgement.
        pairwise: compare instead of scoring: the best so far against each next edit, M - 1 comparisons for M edits, as
            in the paper (section 3.3). Judges that cannot compare score all the same.
    """
    comparisons: list[Comparison] = []
    failures: list[Failure] = []
    verdicts: dict[int, Verdict] = {}
    for judge in judges:
        hearing = Hearing(judge, question, poll, interrupts)
        order = hearing.best_first(edits, 1) if pairwise and judge.compares else _by_score(hearing, edits, keep)
        comparisons += hearing.comparisons
        failures += hearing.failures
        verdicts |= hearing.verdicts
        if hearing.has_opinion:
            seeds = tuple(edit.seed for edit in order)
            return Ranking(seeds, judge.name, verdicts, tuple(comparisons), tuple(failures))
    return Ranking(tuple(edit.seed for edit in edits), None, verdicts, tuple(comparisons), tuple(failures))


def _by_score(hearing: "Hearing", edits: Sequence[Candidate], keep: int) -> list[Candidate]:
    def worth(edit: Candidate) -> tuple[bool, bool, float]:
        verdict = hearing.verdicts[edit.seed]
        return verdict.broken, verdict.score is None, -(verdict.score or 0.0)

    hearing.score(edits)
    order: list[Candidate] = []
    for _, equals in groupby(sorted(edits, key=worth), key=worth):
        group = list(equals)
        if len(order) < keep < len(order) + len(group):
            group = hearing.best_first(group, keep - len(order))
        order += group
    return order


class Hearing:
    """One judge's verdicts on some edits. Its failures are collected, not raised."""

    def __init__(self, judge: Judge, question: Question, poll: Poll, interrupts: Interrupts) -> None:
        self.verdicts: dict[int, Verdict] = {}
        self.comparisons: list[Comparison] = []
        self.failures: list[Failure] = []
        self._judge, self._question, self._poll, self._interrupts = judge, question, poll, interrupts
        self._failed_in_a_row = 0
        self._second_is_better: dict[tuple[int, int], bool] = {}

    @property
    def has_opinion(self) -> bool:
        scored = any(verdict.score is not None or verdict.broken for verdict in self.verdicts.values())
        return scored or any(entry.preference.choice is not Choice.ABSTAIN for entry in self.comparisons)

    def score(self, edits: Sequence[Candidate]) -> None:
        """Ask for the verdicts on all edits at once; after a failure each is without an opinion."""
        verdicts = self._ask("score", edits, lambda: self._scores(edits))
        for edit, verdict in zip(edits, verdicts or [Verdict()] * len(edits), strict=True):
            self.verdicts[edit.seed] = verdict

    def best_first(self, edits: Sequence[Candidate], count: int) -> list[Candidate]:
        """The best `count` edits by comparisons, best first, then the others in their order.

        Each is found by comparing the best so far with every next edit. The later one wins only when the judge prefers
        it, not in a tie or without an opinion. No pair is asked twice.
        """
        rest, best = list(edits), []
        while self._judge.compares and len(best) < count and len(rest) > 1:
            champion = rest[0]
            for challenger in rest[1:]:
                if self._loses(champion, challenger):
                    champion = challenger
            best.append(champion)
            rest = [edit for edit in rest if edit is not champion]
        return best + rest

    def _scores(self, edits: Sequence[Candidate]) -> list[Verdict]:
        verdicts = list(self._judge.score(self._question, edits, self._poll))
        if len(verdicts) != len(edits):
            raise ValueError(f"the judge gave {len(verdicts)} verdicts for {len(edits)} edits")
        return [_finite(verdict) for verdict in verdicts]

    def _loses(self, first: Candidate, second: Candidate) -> bool:
        pair = (first.seed, second.seed)
        if pair not in self._second_is_better:
            self._second_is_better[pair] = self._compare(first, second)
        return self._second_is_better[pair]

    def _compare(self, first: Candidate, second: Candidate) -> bool:
        if self._failed_in_a_row >= GIVE_UP:
            return False
        preference = self._ask(
            "compare", (first, second), lambda: self._judge.compare(self._question, first, second, self._poll)
        )
        if preference is None:
            self._failed_in_a_row += 1
            return False
        self._failed_in_a_row = 0
        self.comparisons.append(Comparison(self._judge.name, first.seed, second.seed, preference))
        return preference.choice is Choice.SECOND

    def _ask(self, asked: str, edits: Sequence[Candidate], answer: Callable[[], Answer]) -> Answer | None:
        self._poll()
        try:
            return answer()
        except self._interrupts:
            raise
        except Exception as error:
            seeds = tuple(edit.seed for edit in edits)
            # A judge's own message is complete; of other exceptions the type may tell more than the text.
            said = str(error) if isinstance(error, JudgeError) else f"{type(error).__name__}: {error}"
            self.failures.append(Failure(self._judge.name, asked, seeds, said))
            return None


def _finite(verdict: Verdict) -> Verdict:
    if verdict.score is None or math.isfinite(verdict.score):
        return verdict
    return replace(verdict, score=None, reasons=(*verdict.reasons, f"the score was {verdict.score}"))
