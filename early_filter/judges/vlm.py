"""A judge that asks a vision-language model, in ComfyUI or on a server."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from typing_extensions import override

from ..judge import Candidate, Choice, Judge, JudgeCost, JudgeError, Poll, Preference, Question, Verdict
from . import prompts
from .pictures import unusable

Ask = Callable[[Sequence[prompts.Request], Poll], Sequence[str | JudgeError]]
"""Sends requests to a language model and returns for each, in order, the answer or the reason why there is none."""

REMEMBERED = 64
"""For so many instructions the written questions are kept, so that all looks of a run ask the same ones."""


PIXELS_A_TOKEN, CHARACTERS_A_TOKEN = 32 * 32, 4
"""Of Qwen3-VL, and of English text; for what judging costs, where nearly is enough."""

WRITTEN = 256
"""Tokens of an answer in words; models that think before they answer may write more."""


@dataclass(frozen=True)
class PairQuestion:
    """How a model is asked which of two edits is better.

    Attributes:
        request: asks about a first and a second edit; the number is the vote.
        read: what an answer says; None where it does not say.
        votes: how often a pair is asked.
        written: tokens of an answer at most.
    """

    request: Callable[[Question, Candidate, Candidate, int], prompts.Request]
    read: Callable[[str], Choice | None]
    votes: int = 1
    written: int = WRITTEN


GENERAL = PairQuestion(
    lambda question, first, second, _: prompts.comparison(question, first, second), prompts.read_choice
)
"""Which edit is better in all: the instruction, what should stay, and faults."""


@dataclass(frozen=True)
class Checklist:
    """Yes/no questions about one instruction, and the model's answer that they were read from."""

    checks: tuple[str, ...]
    answer: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VLMJudge(Judge):
    """Compares edits pair by pair beside the source, after counting passed checks when `checks` is on.

    Attributes:
        title: its name in reports.
        ask: sends requests to the model.
        checks: first count how many of up to five yes/no questions about the instruction each edit passes (the
            measure with the largest gain in ADE-CoT, arXiv 2603.00141); only edits with the same count are compared.
        swap_order: ask each comparison in both orders, because models prefer the first or the second picture; when the
            two answers disagree it is a tie.
        pair: how a comparison is asked.
    """

    title: str
    ask: Ask = field(repr=False)
    checks: bool = True
    swap_order: bool = True
    pair: PairQuestion = GENERAL
    _checklists: dict[tuple[str, str], Checklist] = field(default_factory=dict, init=False, repr=False, compare=False)

    compares = True

    @property
    @override
    def name(self) -> str:
        return self.title

    @property
    @override
    def makes_checks(self) -> bool:
        return self.checks

    @override
    def cost(self, question: Question, edits: int, keep: int) -> JudgeCost:
        """The checks of every edit, and all comparisons of edits that pass the same ones; fewer where they do not."""
        edit = Candidate(0, question.source)
        cost = JudgeCost()
        if self.checks:
            write, check = prompts.writing_checks(question), prompts.checking(question, prompts.GENERAL_CHECKS, edit)
            cost = JudgeCost(1 + edits, read_tokens(write) + edits * read_tokens(check), (1 + edits) * WRITTEN)
        pairs = sum(max(0, edits - 1 - place) for place in range(keep)) if edits > keep else 0
        asked = pairs * self.pair.votes * (2 if self.swap_order else 1)
        read = read_tokens(self.pair.request(question, edit, edit, 0))
        return cost + JudgeCost(asked, asked * read, asked * self.pair.written)

    @override
    def score(self, question: Question, edits: Sequence[Candidate], poll: Poll) -> list[Verdict]:
        """Counts the checks that each edit passes; without `checks` no edit gets a score.

        Raises:
            JudgeError: the model answered for none of the edits.
        """
        verdicts = [unusable(edit) for edit in edits]
        asked = [index for index, verdict in enumerate(verdicts) if verdict is None]
        if not self.checks or not asked:
            return [verdict or Verdict() for verdict in verdicts]
        checklist = self._checklist(question, poll)
        requests = [prompts.checking(question, checklist.checks, edits[index]) for index in asked]
        for index, answer in zip(asked, answered(self.ask, requests, poll), strict=True):
            verdicts[index] = _checked(checklist, answer)
        return [verdict or Verdict() for verdict in verdicts]

    @override
    def compare(self, question: Question, first: Candidate, second: Candidate, poll: Poll) -> Preference:
        """Asks which edit is better, in both orders with `swap_order`.

        Raises:
            JudgeError: the model gave no answer at all.
        """
        requests = []
        for vote in range(self.pair.votes):
            requests.append(self.pair.request(question, first, second, vote))
            if self.swap_order:
                requests.append(self.pair.request(question, second, first, vote))
        answers = answered(self.ask, requests, poll)
        choices = [None if isinstance(answer, JudgeError) else self.pair.read(answer) for answer in answers]
        each = 2 if self.swap_order else 1
        if self.swap_order:
            choices[1::2] = [_swapped(choice) for choice in choices[1::2]]
        votes = [_agreed(choices[start : start + each]) for start in range(0, len(choices), each)]
        choice, reason = votes[0] if len(votes) == 1 else _majority([choice for choice, _ in votes])
        return Preference(choice, (reason,), tuple(map(str, answers)))

    def _checklist(self, question: Question, poll: Poll) -> Checklist:
        key = (question.instruction, hashlib.sha256(question.source.float().cpu().numpy().tobytes()).hexdigest())
        if key not in self._checklists:
            (answer,) = answered(self.ask, [prompts.writing_checks(question)], poll)
            text = str(answer)
            if checks := prompts.read_questions(text):
                found = Checklist(checks, text)
            else:
                notes = ("the model wrote no usable questions; general ones were asked",)
                found = Checklist(prompts.general_checks(question), text, notes)
            while len(self._checklists) >= REMEMBERED:
                self._checklists.pop(next(iter(self._checklists)))
            self._checklists[key] = found
        return self._checklists[key]


def answered(ask: Ask, requests: Sequence[prompts.Request], poll: Poll) -> Sequence[str | JudgeError]:
    """The answers, of which some may be errors.

    Raises:
        JudgeError: all of them are.
    """
    answers = ask(requests, poll)
    failures = [answer for answer in answers if isinstance(answer, JudgeError)]
    if failures and len(failures) == len(requests):
        raise failures[0]
    return answers


def read_tokens(request: prompts.Request) -> int:
    """About how many tokens a model reads with a request."""
    pixels = sum(picture.image.shape[0] * picture.image.shape[1] for picture in request.pictures)
    return len(request.text) // CHARACTERS_A_TOKEN + pixels // PIXELS_A_TOKEN


def _checked(checklist: Checklist, answer: str | JudgeError) -> Verdict:
    answers = (checklist.answer, str(answer))
    if isinstance(answer, JudgeError):
        return Verdict(reasons=(str(answer), *checklist.notes), answers=answers)
    passed = prompts.read_checks(answer, len(checklist.checks))
    if passed is None:
        return Verdict(
            reasons=("the answer says neither yes nor no to the questions", *checklist.notes), answers=answers
        )
    results = [f"{'yes' if yes else 'no'}: {check}" for yes, check in zip(passed, checklist.checks, strict=True)]
    return Verdict(score=float(sum(passed)), passed=all(passed), reasons=(*results, *checklist.notes), answers=answers)


def _swapped(choice: Choice | None) -> Choice | None:
    if choice is None:
        return None
    return {Choice.FIRST: Choice.SECOND, Choice.SECOND: Choice.FIRST}.get(choice, choice)


def _agreed(choices: list[Choice | None]) -> tuple[Choice, str]:
    """One choice from the answers in one or both orders, with its reason."""
    said = {choice for choice in choices if choice is not None}
    if not said:
        return Choice.ABSTAIN, "no answer names one of the two"
    if len(said) == 1 and None not in choices:
        (choice,) = said
        return choice, "both orders agree" if len(choices) == 2 else "asked in one order"
    if None in choices:
        return Choice.TIE, "only one of the two orders was answered, and a model may prefer a place: a tie"
    return Choice.TIE, "the two orders disagree: a tie"


def _majority(choices: Sequence[Choice]) -> tuple[Choice, str]:
    """What most votes say; those that say nothing count for nobody."""
    first, second, silent = (choices.count(each) for each in (Choice.FIRST, Choice.SECOND, Choice.ABSTAIN))
    told = f"{first} of {len(choices)} votes for the one, {second} for the other"
    if silent == len(choices):
        return Choice.ABSTAIN, "no answer names one of the two"
    if 2 * silent >= len(choices) or first == second:
        return Choice.TIE, f"{told}: a tie"
    return (Choice.FIRST if first > second else Choice.SECOND), told
