"""Answers of language models that nothing good may be read from, of every kind that was thought of; seeded."""

import random
from collections.abc import Callable

Kind = str | Callable[[random.Random], str]

WORDS = ("the", "cat", "is", "grey", "now", "sofa", "kept", "blur", "hat", "perfect", "25", "10/10")
REFUSALS = ("I'm sorry, but I can't assist with that request.", "I cannot see any pictures.", "", " \n\t", "null", "{}")


def prose(draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 30)))


def garbage(draw: random.Random) -> str:
    return "".join(
        chr(draw.choice((draw.randint(1, 127), draw.randint(128, 0x3FFF)))) for _ in range(draw.randint(1, 200))
    )


ANYTHING: tuple[Kind, ...] = (
    lambda draw: draw.choice(REFUSALS),
    prose,
    garbage,
    lambda draw: "{" * draw.randint(1, 3000),
    lambda draw: '{"a":' * draw.randint(1, 3000),
    lambda draw: "[" * draw.randint(1, 3000) + "25, 25",
    lambda draw: f"<html><title>{draw.randint(400, 599)}</title>{prose(draw)}</html>",
    lambda draw: f"<think>{prose(draw)} " + '{"score": [25, 25], "winner": "A"} ANSWER: 1\n1: yes\n2: yes\n3: yes',
    lambda draw: f'<think>ANSWER: 2 {{"score": [25, 25], "winner": "B"}}</think>{draw.choice(REFUSALS)}',
)
"""Of no use to any question."""


def _marks(text: str) -> Callable[[random.Random], str]:
    return lambda draw: f'{{"reasoning": "{prose(draw)}", "score": {text}}}'


def _cut(draw: random.Random) -> str:
    whole = f'{{"reasoning": "{prose(draw)}", "score": [25, 25]}}'
    return whole[: draw.randint(1, whole.rindex("25") - 1)]


MARKS: tuple[Kind, ...] = (
    *ANYTHING,
    _cut,
    *(
        _marks(text)
        for text in (
            "25", "[25]", "[25, 25, 25]", "[]", "null", '"25"', '["25", "25"]', "[true, true]", "[NaN, 25]",
            "[25, Infinity]", "[26, 25]", "[-1, 25]", "[25, 2500]", "[1e99, 25]", "[[25, 25]]",
            '{"success": 25, "overediting": 25}',
            "[success, overediting]", "25/25", "[25 25]", "[25; 25]", '[25, "?"]', "[25, 25", "[25., 25]", "[0x19, 25]",
        )
    ),
    lambda draw: _marks(f"[{'9' * draw.randint(5, 6000)}, 25]")(draw),
    lambda draw: f"[{draw.randint(20, 25)}, 25]",
    lambda draw: f"score 25 of 25, {prose(draw)}",
    lambda draw: f'{{"reasoning": "{prose(draw)}", "marks": [25, 25]}}',
    '{"score": [1, 1], "score": [25, 25]}',
    '{"score": [25, 25]} {"score": [1, 1]}',
    '{"reasoning": "as in {"score": [25, 25]}", "score": [1, 2]}',
    lambda draw: f'{{"answer": {_marks("[25, 25]")(draw)}}}'.replace("reasoning", "score: ?"),
    '{"reasoning": "score: [25, 25]", "score": }',
)  # fmt: skip
"""Of no use to a question for two marks; most speak of high ones."""


def _won(text: str) -> Kind:
    return lambda draw: f'{{"reasoning": "{prose(draw)}", "winner": {text}}}'


WINNER: tuple[Kind, ...] = (
    *ANYTHING,
    lambda draw: '{"reasoning": "A is better", "winner": '[: draw.randint(1, 40)],
    *(
        _won(text)
        for text in (
            "null", '""', '"C"', '"A and B"', '"A or B"', "1", "true", '["A"]', '["A", "B"]', '{"A": 1}', '"both"',
            '"AB"', '"not A"', '"winner"', '"A" or "B"',
        )
    ),
    lambda draw: f'{{"reasoning": "{prose(draw)}", "best": "A"}}',
    '{"winner": "A", "winner": "B"}',
    '{"winner": "A"}\n{"winner": "B"}',
    '{"reasoning": "not {"winner": "A"}", "winner": "B"}',
    lambda draw: f"winner: A is what I would say if {prose(draw)}",
)  # fmt: skip
"""Of no use to a question for A, B or a tie."""

CHOICE: tuple[Kind, ...] = (
    *ANYTHING,
    "ANSWER: 1 or ANSWER: 2",
    lambda draw: f"ANSWER: {draw.choice((0, 3, 12, 21, 100))}",
    lambda draw: f"ANSWER: {draw.choice(('maybe', 'A', '?', 'yes', ''))}",
    "ANSWER",
    "Edit 1 is better at the hat. Edit 2 is better at the face.",
    lambda draw: f"Edit {draw.randint(1, 2)} is not better.",
    "\\boxed{2}",
)
"""Of no use to the general question which of two edits is better."""

CHECKS: tuple[Kind, ...] = (
    *ANYTHING,
    "yes",
    "yes yes",
    lambda draw: " ".join(["yes"] * draw.randint(4, 9)),
    "1: unsure\n2: maybe\n3: partly",
    "1: yes\n1: no\n2: yes\n2: no\n3: no",
    lambda draw: f"7: yes\n8: yes\n{draw.randint(9, 99)}: yes",
    "The cat has 3 legs.",
)
"""Of no use to three yes/no questions."""


def malformed(kinds: tuple[Kind, ...], count: int, seed: int) -> list[str]:
    """So many answers, every kind as often as the others."""
    draw = random.Random(seed)
    return [kind if isinstance(kind := kinds[index % len(kinds)], str) else kind(draw) for index in range(count)]
