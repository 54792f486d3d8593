"""The sentence that ICEdit's LoRAs were trained with (paper section 3.1, released inference code)."""

ICEDIT_PROMPT = (
    "A diptych with two side-by-side images of the same scene. "
    "On the right, the scene is exactly the same as on the left but {instruction}"
)

TEMPLATES = {"ICEdit": ICEDIT_PROMPT, "none": "{instruction}"}
"""Template name -> text with one `{instruction}` slot."""


def edit_prompt(instruction: str, template: str = "ICEdit") -> str:
    """The full prompt for an edit instruction.

    Raises:
        ValueError: when the instruction is empty or the template unknown.
    """
    if not instruction.strip():
        raise ValueError(
            'The edit instruction is empty. Write what should change, for example "make her hair dark green".'
        )
    if template not in TEMPLATES:
        raise ValueError(f"Unknown prompt template {template!r}, expected one of {', '.join(TEMPLATES)}.")
    # str.replace, not str.format: an instruction may contain braces.
    return TEMPLATES[template].replace("{instruction}", instruction.strip())
