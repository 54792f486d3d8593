"""What trained judges are asked: our own words in the form that they were trained for, or a user's text file.

Such a judge answers best to the words of its training, which belong to its authors. Who has them puts them into a text
file; what they must hold is checked here.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

FOLLOWING, QUALITY, COMPARISON = "following", "quality", "comparison"
"""The parts of a wording: success and overediting, naturalness and artifacts, two edits side by side."""

INSTRUCTION = "{instruction}"
_SPELLINGS = (INSTRUCTION, "<instruction>")
_HEADING = re.compile(rf"^\[({FOLLOWING}|{QUALITY}|{COMPARISON})\][ \t]*\r?$", re.M)
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+)\}")

OWN = {
    FOLLOWING: """The first picture is the source, the second one is the source after an edit. The edit was asked for \
with this instruction:
{instruction}

Give two marks from 0 to 25.
- Success: 25 when everything that the instruction asks for is there, completely and in the right place; 0 when none \
of it is.
- Overediting: 25 when everything that the instruction does not mention is as in the source, people and their faces, \
objects, background, colours and style; 0 when the second picture shows another scene.
A second picture that looks like the source has done nothing: its success is 0. The second picture may be an early \
preview, so do not mind that it is blurred.

Answer with JSON and nothing else. Give the reasons first, in at most three short sentences:
{"reasoning": "...", "score": [success, overediting]}""",
    QUALITY: """Look at this picture, which a computer has edited. What was asked for does not matter here.

Give two marks from 0 to 25.
- Naturalness: 25 when light, shadows, sizes and distances fit together as in a real picture of its kind; 0 when the \
whole looks wrong.
- Artifacts: 25 when nothing is deformed, doubled, smeared, cut off or covered with noise; 0 when such faults are \
everywhere.
The picture may be an early preview, so do not mind that it is blurred.

Answer with JSON and nothing else. Give the reasons first, in at most three short sentences:
{"reasoning": "...", "score": [naturalness, artifacts]}""",
    COMPARISON: """The first picture is the source. The second and the third, called A and B, are two attempts at \
editing it with this instruction:
{instruction}

Which of the two keeps better what the instruction does not ask to change: people and their faces, objects, their \
shapes and places, background, colours and style? Leave aside what had to change. The pictures may be early previews, \
so do not mind that they are blurred.

Answer with JSON and nothing else; winner is "A", "B" or "Tie":
{"reasoning": "...", "winner": "..."}""",
}


@dataclass(frozen=True)
class Wording:
    """The texts of the parts; each but the one about the edited picture alone names the instruction.

    Raises:
        ValueError: a part lacks its instruction, or holds a placeholder that nobody fills.
    """

    parts: Mapping[str, str]
    source: str = "the wording"

    def __post_init__(self) -> None:
        for name, text in self.parts.items():
            if unknown := sorted({f"{{{word}}}" for word in _PLACEHOLDER.findall(text)} - {INSTRUCTION}):
                raise ValueError(
                    f"[{name}] in {self.source} holds {', '.join(unknown)}, which nobody fills. The only placeholder "
                    f"is {INSTRUCTION}; the pictures stand before the text by themselves."
                )
            if name != QUALITY and not any(spelling in text for spelling in _SPELLINGS):
                raise ValueError(
                    f"[{name}] in {self.source} lacks the placeholder {INSTRUCTION}, so the judge would not know what "
                    "was asked for. Write it where the instruction belongs."
                )

    def text(self, part: str, instruction: str) -> str:
        """What is asked about an edit that was asked for with this instruction."""
        # Not str.format: the texts hold JSON.
        text = self.parts[part]
        for spelling in _SPELLINGS:
            text = text.replace(spelling, instruction)
        return text


def own_wording(needed: Collection[str]) -> Wording:
    """Our words for these parts."""
    return Wording({part: OWN[part] for part in needed})


def read_wording(text: str, needed: Collection[str], source: str) -> Wording:
    """A user's words: each part under a line with its name in square brackets. A single part needs no such line.

    Raises:
        ValueError: a part is missing, empty or there twice, or its placeholders are not right.
    """
    pieces = _HEADING.split(text)
    before, names, texts = pieces[0].strip(), pieces[1::2], [piece.strip() for piece in pieces[2::2]]
    if not names and len(needed) == 1:
        (name,) = needed
        names, texts, before = [name], [before], ""
    expected = " and ".join(f"[{name}]" for name in needed)
    if before:
        raise ValueError(
            f"{source} holds text before its first part ({before[:60]!r}), expected {expected}, each on a line of its "
            "own before its text."
        )
    for name in needed:
        if names.count(name) != 1 or not texts[names.index(name)]:
            fault = "lacks" if name not in names else "holds no text under" if names.count(name) == 1 else "repeats"
            raise ValueError(
                f"{source} {fault} [{name}], expected {expected}, each once, on a line of its own before its text."
            )
    if foreign := [name for name in names if name not in needed]:
        raise ValueError(f"{source} holds [{foreign[0]}], which this style does not ask, expected {expected}.")
    return Wording(dict(zip(names, texts, strict=True)), source)
