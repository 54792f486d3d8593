"""Sentences around the instruction: the one that ICEdit's LoRAs were trained with, and one for models without them.

Paper section 3.1, released inference code.
"""

ICEDIT_PROMPT = (
    "A diptych with two side-by-side images of the same scene. "
    "On the right, the scene is exactly the same as on the left but {instruction}"
)

TEXT_TO_IMAGE_PROMPT = (
    "A diptych with two side-by-side images of the same scene. "
    "On the left: {description}. "
    "On the right, the scene is exactly the same as on the left but {instruction}"
)
"""For a text-to-image FLUX, which is told in words what the left panel shows."""

TEXT_TO_IMAGE = "text-to-image"

TEMPLATES = {"ICEdit": ICEDIT_PROMPT, "none": "{instruction}", TEXT_TO_IMAGE: TEXT_TO_IMAGE_PROMPT}
"""Template name -> text with an `{instruction}` slot; text-to-image has a `{description}` slot too."""


def edit_prompt(instruction: str, template: str = "ICEdit", description: str = "") -> str:
    """The full prompt for an edit instruction.

    `description`: what the source picture shows, for the template text-to-image; without one it is ICEdit's sentence.

    Raises:
        ValueError: when the instruction is empty or the template unknown.
    """
    if not instruction.strip():
        raise ValueError(
            'The edit instruction is empty. Write what should change, for example "make her hair dark green".'
        )
    if template not in TEMPLATES:
        raise ValueError(f"Unknown prompt template {template!r}, expected one of {', '.join(TEMPLATES)}.")
    text = TEMPLATES[template]
    described = description.strip().rstrip(".")
    if template == TEXT_TO_IMAGE and not described:
        text = ICEDIT_PROMPT
    # The template is split before anything is filled in: a description or an instruction may contain braces and slots.
    return described.join(part.replace("{instruction}", instruction.strip()) for part in text.split("{description}"))
