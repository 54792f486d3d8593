"""EditScore's questions (arXiv 2509.23909): two marks for source and edit, two for the edit alone, one score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from typing_extensions import override

from ..judge import Candidate, Judge, JudgeCost, JudgeError, Poll, Question, Verdict
from .json_answers import FULL_MARK, MARKS_SCHEMA, read_marks
from .pictures import ShownPicture, unusable
from .prompts import AnswerSampling, Request
from .vlm import Ask, answered, read_tokens
from .wording import FOLLOWING, QUALITY, Wording, own_wording

PARTS = (FOLLOWING, QUALITY)
MAX_VOTES = 4
FULL_SCORE = 10.0

PASSED = 8.0
"""An edit with this score needs no better one. It asks for at least 20 of 25 where the two questions agree."""

SAMPLING = AnswerSampling(temperature=0.7, top_p=0.9, top_k=20, max_tokens=512)
"""As EditScore's published accuracies were measured."""

Marks = tuple[float, float]


@dataclass(frozen=True)
class EditScoreJudge(Judge):
    """Scores each edit from 0 to 10: the root of the product of the lower marks of the two questions.

    Attributes:
        title: its name in reports.
        ask: sends requests to the model.
        votes: how often each question is asked, each time with another seed; the score is the mean. Both answers of a
            vote must be readable for it to count, and more than half of the votes must count.
        wording: what is asked.
    """

    title: str
    ask: Ask = field(repr=False)
    votes: int = 1
    wording: Wording = field(default_factory=lambda: own_wording(PARTS), repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.votes <= MAX_VOTES:
            raise ValueError(f"votes is {self.votes}, expected 1 to {MAX_VOTES}.")

    @property
    @override
    def name(self) -> str:
        return self.title

    @property
    @override
    def makes_checks(self) -> bool:
        return True

    @override
    def cost(self, question: Question, edits: int, keep: int) -> JudgeCost:
        """Every edit is asked about in both questions, once for each vote."""
        read = sum(read_tokens(request) for request in self._requests(question, Candidate(0, question.source), 0))
        asked = edits * self.votes
        return JudgeCost(2 * asked, asked * read, 2 * asked * SAMPLING.max_tokens)

    @override
    def score(self, question: Question, edits: Sequence[Candidate], poll: Poll) -> list[Verdict]:
        """The score of each edit; none where too few votes can be read.

        Raises:
            JudgeError: the model answered for none of the edits.
        """
        verdicts = [unusable(edit) for edit in edits]
        asked = [edit for edit, verdict in zip(edits, verdicts, strict=True) if verdict is None]
        if not asked:
            return [verdict or Verdict() for verdict in verdicts]
        requests = [
            request for edit in asked for vote in range(self.votes) for request in self._requests(question, edit, vote)
        ]
        answers = answered(self.ask, requests, poll)
        count = 2 * self.votes
        scored = iter([_verdict(answers[start : start + count]) for start in range(0, len(answers), count)])
        return [verdict or next(scored) for verdict in verdicts]

    def _requests(self, question: Question, edit: Candidate, vote: int) -> list[Request]:
        source, shown = ShownPicture("SOURCE", question.source), ShownPicture("EDIT", edit.panel)
        sampling = replace(SAMPLING, seed=vote)
        return [
            Request(self.wording.text(part, question.instruction), pictures, sampling, MARKS_SCHEMA, separate=True)
            for part, pictures in ((FOLLOWING, (source, shown)), (QUALITY, (shown,)))
        ]


def _verdict(answers: Sequence[str | JudgeError]) -> Verdict:
    """The verdict on one edit by the answers to both questions, vote after vote."""
    votes = [(_marks(first), _marks(second)) for first, second in zip(answers[::2], answers[1::2], strict=True)]
    readable = [(first, second) for first, second in votes if first is not None and second is not None]
    errors = dict.fromkeys(str(answer) for answer in answers if isinstance(answer, JudgeError))
    reasons = tuple(_said(first, second) for first, second in readable) + tuple(errors)
    told = tuple(map(str, answers))
    if len(readable) < len(votes):
        reasons += (f"{len(readable)} of {len(votes)} votes give marks from 0 to {FULL_MARK:g} that can be read",)
    if 2 * len(readable) <= len(votes):
        return Verdict(reasons=reasons, answers=told)
    scale = FULL_SCORE / FULL_MARK
    score = sum(scale * math.sqrt(min(first) * min(second)) for first, second in readable) / len(readable)
    return Verdict(score=score, passed=score >= PASSED, reasons=reasons, answers=told)


def _marks(answer: str | JudgeError) -> Marks | None:
    return None if isinstance(answer, JudgeError) else read_marks(answer)


def _said(first: Marks, second: Marks) -> str:
    return (
        f"success {first[0]:g}, overediting {first[1]:g}, naturalness {second[0]:g}, artifacts {second[1]:g} "
        f"of {FULL_MARK:g}"
    )
