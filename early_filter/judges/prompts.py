"""The questions to language models and how their answers are read, the same for the host's models and for servers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..judge import Candidate, Choice, Question
from .pictures import ShownPicture

MAX_CHECKS = 5

_PREVIEW = (
    "The edited pictures are quick previews: ignore blur and missing fine detail. A picture in which nothing has "
    "changed does not follow the instruction."
)

_COMPARE = """SOURCE is a picture before editing. EDIT 1 and EDIT 2 are two attempts at this instruction:
"{instruction}"

Which attempt is better?
- It does what the instruction says, completely and in the right place.
- Everything else is as in SOURCE: people and their faces, objects, composition, colours, style.
- Nothing in it is deformed, doubled, smeared or cut off.
{preview}

Give your reason in one short sentence. Then write a last line with nothing but ANSWER: 1 or ANSWER: 2; write \
ANSWER: TIE if neither is better."""

_WRITE_CHECKS = """SOURCE is a picture that will be edited with this instruction:
"{instruction}"

Write up to five questions that can be answered with yes or no by looking at SOURCE and at the edited picture, called \
EDIT. Yes must always mean that the edit is good. Ask first whether each part of the instruction was carried out, then \
whether the things in SOURCE that are most likely to suffer have stayed the same, last whether EDIT looks natural.
Name what you see in SOURCE. Write one question on each line, numbered, and nothing else."""

_CHECK = """SOURCE is a picture before editing, EDIT is an attempt at this instruction:
"{instruction}"
{preview}

Answer each question with yes or no. When unsure: no.
{checks}

Write one line for each question, its number and your answer, like "1: no", and nothing else."""

GENERAL_CHECKS = (
    'Has the instruction "{instruction}" been carried out completely in EDIT?',
    "Has nothing been changed in EDIT that the instruction does not ask for?",
    "Are all people, animals and main objects that should stay still recognizably the same?",
    "Do composition, viewpoint and style of EDIT match SOURCE, apart from what the instruction asks for?",
    "Is EDIT free of deformed, doubled, smeared or cut off things?",
)
"""Asked when a model writes no usable questions of its own."""


@dataclass(frozen=True)
class AnswerSampling:
    """How a model draws an answer, by a random generator of its own; without these it gives the likeliest one."""

    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """A prompt and the pictures that it names.

    Attributes:
        sampling: None for the likeliest answer.
        schema: JSON schema of the answer, for servers that can hold a model to one.
        separate: the pictures stand before the text by themselves, in their order and without labels, as judges that
            were trained for it want them.
    """

    text: str
    pictures: tuple[ShownPicture, ...]
    sampling: AnswerSampling | None = None
    schema: Mapping[str, Any] | None = None
    separate: bool = False


def comparison(question: Question, first: Candidate, second: Candidate) -> Request:
    """Asks which of two edits is better."""
    pictures = (_source(question), ShownPicture("EDIT 1", first.panel), ShownPicture("EDIT 2", second.panel))
    return Request(_COMPARE.format(instruction=question.instruction, preview=_PREVIEW), pictures)


def writing_checks(question: Question) -> Request:
    """Asks for yes/no questions about this instruction and picture."""
    return Request(_WRITE_CHECKS.format(instruction=question.instruction), (_source(question),))


def checking(question: Question, checks: tuple[str, ...], edit: Candidate) -> Request:
    """Asks the yes/no questions about one edit."""
    numbered = "\n".join(f"{number}. {check}" for number, check in enumerate(checks, 1))
    text = _CHECK.format(instruction=question.instruction, preview=_PREVIEW, checks=numbered)
    return Request(text, (_source(question), ShownPicture("EDIT", edit.panel)))


def general_checks(question: Question) -> tuple[str, ...]:
    """Questions that fit any instruction."""
    return tuple(check.replace("{instruction}", question.instruction) for check in GENERAL_CHECKS)


def _source(question: Question) -> ShownPicture:
    return ShownPicture("SOURCE", question.source)


_WORDS = {
    Choice.FIRST: "1|one|first",
    Choice.SECOND: "2|two|second",
    Choice.TIE: "tie|tied|draw|neither|both|equal|equally|same|none",
}
_ANY = "|".join(_WORDS.values())
_THING = "(?:edit|image|picture|option|attempt|candidate)"
_MARKED = re.compile(
    rf"\b(?:answer|verdict|choice|winner)[\W_]{{0,6}}"
    rf"(?:is[\W_]{{1,3}})?(?:(?:the|a) )?(?:{_THING}[\W_]{{0,3}})?({_ANY})\b",
    re.I,
)
_STATED = re.compile(
    rf"\b(?:{_THING}[\W_]{{0,3}}(1|2|one|two)|the (first|second)(?: {_THING}| one)?)[\W_]{{0,2}} "
    r"(?:wins\b|(?:is|was|looks|does|follows|works)(?: (?!not\b|no\b|never\b)\w+){0,2} (?:better|best)\b)",
    re.I,
)
_BARE = re.compile(rf"[\W_]*(?:{_THING}[\W_]{{0,3}})?({_ANY})[\W_]*", re.I)
_YES_NO = re.compile(r"\b(yes|no|true|false|unsure|unclear|maybe|partly|partially)\b", re.I)
_NUMBERED = re.compile(
    r"(?<![\w.])(\d+)[\W_]{1,6}(?:answer[\W_]{1,4})?(yes|no|true|false|unsure|unclear|maybe|partly|partially)\b", re.I
)


def without_thoughts(answer: str) -> str:
    """The answer without a reasoning model's <think> part; empty when that part was cut off before its end."""
    answer = re.sub(r"<think>.*?</think>", "", answer, flags=re.I | re.S)
    answer = re.split(r"</think>", answer, flags=re.I)[-1]
    return re.split(r"<think>", answer, flags=re.I)[0].strip()


def read_choice(answer: str) -> Choice | None:
    """Which edit an answer prefers; None when it does not say, or says both.

    The first of these that is there counts: the last line with "ANSWER: n" (or verdict, choice, winner), a last line
    with the choice alone, a sentence like "edit 2 is clearly better".
    """
    lines = [line for line in without_thoughts(answer).splitlines() if line.strip()]
    for line in reversed(lines):
        if marked := {_choice(word) for word in _MARKED.findall(line)}:
            return marked.pop() if len(marked) == 1 else None
    if lines and (bare := _BARE.fullmatch(lines[-1])):
        return _choice(bare[1])
    stated = {_choice(first or second) for first, second in _STATED.findall("\n".join(lines))}
    return stated.pop() if len(stated) == 1 else None


def _choice(word: str) -> Choice:
    return next(choice for choice, words in _WORDS.items() if word.lower() in words.split("|"))


def read_questions(answer: str) -> tuple[str, ...]:
    """The questions in an answer, five at the most, without their numbers."""
    questions: list[str] = []
    for line in without_thoughts(answer).splitlines():
        found = re.match(r"[\W_]*(?:q(?:uestion)?\s*)?(?:\d+[\W_]*)?(\w.*\?)", line, re.I)
        if found and len(found[1]) >= 8 and found[1] not in questions:
            questions.append(found[1])
    return tuple(questions[:MAX_CHECKS])


def read_checks(answer: str, count: int) -> tuple[bool, ...] | None:
    """Yes or no for each of `count` questions; None when none of them is answered.

    No answer, an unsure one, and yes and no at once all count as no.
    """
    answer = without_thoughts(answer)
    said: dict[int, set[bool]] = {}
    numbered = _numbered(answer)
    for number, word in numbered:
        if 1 <= number <= count:
            said.setdefault(number, set()).add(word.lower() in ("yes", "true"))
    if not said:
        words = _YES_NO.findall(answer)
        # Numbers that are those of no question answer other questions.
        if numbered or len(words) != count:
            return None
        said = {number: {word.lower() in ("yes", "true")} for number, word in enumerate(words, 1)}
    return tuple(said.get(number) == {True} for number in range(1, count + 1))


def _numbered(answer: str) -> list[tuple[int, str]]:
    if pairs := _NUMBERED.findall(answer):
        return [(int(number), word) for number, word in pairs]
    # "3. Is the cat grey? Yes": the question stands between its number and the answer.
    pairs = []
    for line in answer.splitlines():
        number, words = re.match(r"\W*(\d+)\b", line), _YES_NO.findall(line)
        if number and words:
            pairs.append((int(number[1]), words[-1]))
    return pairs
