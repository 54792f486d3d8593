"""The sentences that the models are trained with."""

from collections.abc import Callable

from ..diptych.prompt import edit_prompt
from .edits import SceneEdit

DESCRIPTION_PROMPT = "A diptych with two side-by-side images of the same scene. On the right, {description}"

Sentence = Callable[[SceneEdit], str]


def description_prompt(edit: SceneEdit) -> str:
    """What the base model reads: how the right picture differs, as a caption would say it."""
    return DESCRIPTION_PROMPT.replace("{description}", edit.description)


def instruction_prompt(edit: SceneEdit) -> str:
    """What the LoRAs read: ICEdit's own sentence."""
    return edit_prompt(edit.instruction)
