"""The sentences that the models are trained with."""

from ..diptych.prompt import TEXT_TO_IMAGE, edit_prompt
from .edits import SceneEdit, with_article
from .scene import Scene

DESCRIPTION_PROMPT = "A diptych with two side-by-side images of the same scene. On the right, {description}"


def description_prompt(edit: SceneEdit) -> str:
    """What the base model reads: how the right picture differs, as a caption would say it."""
    return DESCRIPTION_PROMPT.replace("{description}", edit.description)


def instruction_prompt(edit: SceneEdit) -> str:
    """What the LoRAs read: ICEdit's own sentence."""
    return edit_prompt(edit.instruction)


def scene_caption(scene: Scene) -> str:
    """What a picture shows, in the words that the text encoders know (they have none for textures)."""
    names = [f"{'' if shape.filled else 'hollow '}{shape.colour} {shape.kind}" for shape in scene.shapes]
    if not names:
        return f"a {scene.background} background"
    *others, last = [with_article(name) for name in names]
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"{listed} on a {scene.background} background"


def text_to_image_prompt(edit: SceneEdit, described: bool, captioned: bool) -> str:
    """What the text-to-image model reads: the sentence of the training-free workflows.

    Args:
        described: whether it also says what the left picture shows.
        captioned: whether the difference is told as a caption tells it, not as an instruction.
    """
    words = edit.description if captioned else edit.instruction
    return edit_prompt(words, TEXT_TO_IMAGE, scene_caption(edit.before) if described else "")
