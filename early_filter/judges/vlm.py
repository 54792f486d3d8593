"""A judge that asks a vision-language model, in ComfyUI or on a server."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from typing_extensions import override

from ..judge import Candidate, Choice, Judge, JudgeError, Poll, Preference, Question, Verdict
from . import prompts
from .pictures import unusable

Ask = Callable[[Sequence[prompts.Request], Poll], Sequence[str | JudgeError]]
"""Sends requests to a language model and returns for each, in order, the answer or the reason why there is none."""

REMEMBERED = 64
"""For so many instructions the written questions are kept, so that all looks of a run ask the same ones."""


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
    """

    title: str
    ask: Ask = field(repr=False)
    checks: bool = True
    swap_order: bool = True
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
        for index, answer in zip(asked, self._answers(requests, poll), strict=True):
            verdicts[index] = _checked(checklist, answer)
        return [verdict or Verdict() for verdict in verdicts]

    @override
    def compare(self, question: Question, first: Candidate, second: Candidate, poll: Poll) -> Preference:
        """Asks which edit is better, in both orders with `swap_order`.

        Raises:
            JudgeError: the model gave no answer at all.
        """
        requests = [prompts.comparison(question, first, second)]
        if self.swap_order:
            requests.append(prompts.comparison(question, second, first))
        answers = self._answers(requests, poll)
        choices = [None if isinstance(answer, JudgeError) else prompts.read_choice(answer) for answer in answers]
        if self.swap_order:
            choices[1] = _swapped(choices[1])
        choice, reason = _agreed(choices)
        return Preference(choice, (reason,), tuple(map(str, answers)))

    def _checklist(self, question: Question, poll: Poll) -> Checklist:
        key = (question.instruction, hashlib.sha256(question.source.float().cpu().numpy().tobytes()).hexdigest())
        if key not in self._checklists:
            (answer,) = self._answers([prompts.writing_checks(question)], poll)
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

    def _answers(self, requests: Sequence[prompts.Request], poll: Poll) -> Sequence[str | JudgeError]:
        answers = self.ask(requests, poll)
        failures = [answer for answer in answers if isinstance(answer, JudgeError)]
        if failures and len(failures) == len(requests):
            raise failures[0]
        return answers


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
