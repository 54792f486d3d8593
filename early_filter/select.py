"""Ranks edits by the verdicts of judges. A judge that fails or has no opinion never ends the run."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TypeVar

from .judge import Candidate, Choice, Judge, JudgeError, Poll, Preference, Question, Verdict

GIVE_UP = 2
"""After so many failed comparisons in a row a judge is not asked for more in this look: each may be a long timeout."""

Interrupts = tuple[type[BaseException], ...]
Judgement = TypeVar("Judgement")


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
    """Seeds, best first; `judge` is whose opinion that is, None when none had one and the order is the given one."""

    order: tuple[int, ...]
    judge: str | None
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    failures: tuple[Failure, ...] = ()


def rank(judges: Iterable["AskedJudge"], edits: Sequence[Candidate], keep: int, pairwise: bool = False) -> Ranking:
    """Rank edits so that the first `keep` are the best; the first judge with an opinion decides.

    Edits are ordered by their scores. Those with the same score, or without one, are compared in pairs, but only when
    some of them would be kept and others not. Broken edits come last. Equal ones stay in the given order.

    Args:
        judges: in the order in which they are asked; a later one only when those before it had no opinion.
        pairwise: no scores, one running maximum over all edits as in the paper (section 3.3): M - 1 comparisons.
            Judges that cannot compare score instead.
    """
    comparisons: list[Comparison] = []
    failures: list[Failure] = []
    verdicts: dict[int, Verdict] = {}
    for judge in judges:
        order = judge.best_first(edits, 1) if pairwise and judge.compares else _by_score(judge, edits, keep)
        comparisons += judge.comparisons
        failures += judge.failures
        verdicts |= judge.verdicts
        if judge.has_opinion:
            return Ranking(_seeds(order), judge.name, verdicts, tuple(comparisons), tuple(failures))
    return Ranking(_seeds(edits), None, verdicts, tuple(comparisons), tuple(failures))


def _by_score(judge: "AskedJudge", edits: Sequence[Candidate], keep: int) -> list[Candidate]:
    def worth(edit: Candidate) -> tuple[bool, bool, float]:
        verdict = judge.verdicts[edit.seed]
        return verdict.broken, verdict.score is None, -(verdict.score or 0.0)

    judge.score(edits)
    order: list[Candidate] = []
    for _, equals in groupby(sorted(edits, key=worth), key=worth):
        group = list(equals)
        if len(order) < keep < len(order) + len(group):
            group = judge.best_first(group, keep - len(order))
        order += group
    return order


class AskedJudge:
    """One judge and what it said about some edits in one look; its failures are noted, not raised.

    `poll` raises when the user interrupts; `interrupts` are the exceptions that then end the run, where any other one
    counts as a failed judgement.
    """

    def __init__(self, judge: Judge, question: Question, poll: Poll, interrupts: Interrupts) -> None:
        self.verdicts: dict[int, Verdict] = {}
        self.comparisons: list[Comparison] = []
        self.failures: list[Failure] = []
        self.name, self.compares = judge.name, judge.compares
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
        while self.compares and len(best) < count and len(rest) > 1:
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
        self.comparisons.append(Comparison(self.name, first.seed, second.seed, preference))
        return preference.choice is Choice.SECOND

    def _ask(self, asked: str, edits: Sequence[Candidate], answer: Callable[[], Judgement]) -> Judgement | None:
        self._poll()
        try:
            return answer()
        except self._interrupts:
            raise
        except Exception as error:
            # A judge's own message says it all; of other exceptions the kind may say more than the text.
            said = str(error) if isinstance(error, JudgeError) else f"{type(error).__name__}: {error}"
            self.failures.append(Failure(self.name, asked, _seeds(edits), said))
            return None


def _seeds(edits: Sequence[Candidate]) -> tuple[int, ...]:
    return tuple(edit.seed for edit in edits)


def _finite(verdict: Verdict) -> Verdict:
    if verdict.score is None or math.isfinite(verdict.score):
        return verdict
    return replace(verdict, score=None, reasons=(*verdict.reasons, f"the score was {verdict.score}"))
