"""Judges that answer as a test tells them, and note what they were asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from icedit.early_filter.judge import Candidate, Choice, Judge, Poll, Preference, Question, Verdict

QUESTION = Question(torch.zeros(48, 64, 3), "make the {cat} grey")
FIRST, SECOND = Candidate(1, torch.full((48, 64, 3), 0.3)), Candidate(2, torch.full((48, 64, 3), 0.7))
"""The second edit is the brighter one."""

Score = Callable[[Candidate], Verdict]
Compare = Callable[[Candidate, Candidate], Choice]


def poll() -> None:
    """Nobody interrupts."""


@dataclass
class ScriptedJudge(Judge):
    """Scores and compares by given functions; an answer that is an exception is raised."""

    verdict: Score | None = None
    choice: Compare | None = None
    scored: list[tuple[int, ...]] = field(default_factory=list)
    compared: list[tuple[int, int]] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    edits: list[Candidate] = field(default_factory=list)
    reads_instruction: bool = False
    makes_checks: bool = False

    def __post_init__(self) -> None:
        self.compares = self.choice is not None

    @property
    def name(self) -> str:
        return "scripted"

    def score(self, question: Question, edits: Sequence[Candidate], poll: Poll) -> list[Verdict]:
        poll()
        self.questions.append(question)
        self.scored.append(tuple(edit.seed for edit in edits))
        self.edits += edits
        return [self.verdict(edit) for edit in edits] if self.verdict else super().score(question, edits, poll)

    def compare(self, question: Question, first: Candidate, second: Candidate, poll: Poll) -> Preference:
        poll()
        self.compared.append((first.seed, second.seed))
        return Preference(self.choice(first, second) if self.choice else Choice.ABSTAIN)


def by_seed(**scores: float) -> Score:
    """Scores by seed: `by_seed(s3=0.5)`; other seeds score 0."""
    return lambda edit: Verdict(score=scores.get(f"s{edit.seed}", 0.0))
