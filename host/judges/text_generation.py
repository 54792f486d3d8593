"""Answers from vision-language models that the host runs, as CLIP objects."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

MAX_TOKENS = 256
"""Enough for a sentence of reasons and five short lines."""

GEMMA4_PICTURE_TOKENS = 1120
"""The most that Gemma 4 can spend on one picture; the host's 280 would leave 70 for each of four panels. Other models
ignore it."""

WHICH_MODELS = (
    "Load a vision-language model with CLIPLoader and leave its type at stable_diffusion: Qwen3-VL 4B or 8B, Qwen3.5, "
    "Gemma 3 (4B with vision, or 12B) or Gemma 4. Text encoders of image models cannot do it, nor can Qwen2.5-VL, "
    "which ComfyUI runs as an encoder only. For any other model use Edit Judge: Server."
)


def check_can_see_and_answer(clip: Any) -> None:
    """Check that a CLIP object is a model that generates text about pictures.

    Raises:
        ValueError: there is none, it cannot generate text, or it does not look at pictures.
    """
    if clip is None:
        raise ValueError(f"clip is empty: the loader before it brought no model. {WHICH_MODELS}")
    if not callable(getattr(clip, "generate", None)):
        raise ValueError("This ComfyUI is too old to generate text. Update ComfyUI, or use Edit Judge: Server.")
    from comfy.text_encoders.llama import BaseGenerate  # older hosts lack it

    writers = [module for module in clip.cond_stage_model.modules() if isinstance(module, BaseGenerate)]
    if not writers or not hasattr(clip.cond_stage_model, "generate"):
        raise ValueError(f"The model at clip ({model_name(clip)}) cannot generate text. {WHICH_MODELS}")
    sees = any(hasattr(module, "preprocess_embed") for module in writers)
    if not sees or _pictures_in(_tokens(clip, "What is this?", torch.zeros(64, 64, 3))) != 1:
        raise ValueError(
            f"The model at clip ({model_name(clip)}) generates text, but not about pictures. {WHICH_MODELS}"
        )


def answers(clip: Any, questions: Sequence[tuple[str, Tensor]], poll: Callable[[], None]) -> list[str]:
    """The model's most likely answer to each text about its picture `h w 3` in 0..1; without chance in it.

    `poll` is called before each. While a text is generated, the host itself checks for interrupts at each token.
    """
    said = []
    for text, picture in questions:
        poll()
        written = clip.generate(_tokens(clip, text, picture), do_sample=False, max_length=MAX_TOKENS, seed=0)
        said.append(clip.decode(written).strip())
        log.debug("asked: %s\nanswered: %s", text, said[-1])
    return said


def model_name(clip: Any) -> str:
    """The name of the model in reports and errors: the host's name for its type."""
    return str(getattr(clip.cond_stage_model, "clip_name", None) or type(clip.cond_stage_model).__name__)


def _tokens(clip: Any, text: str, picture: Tensor) -> Any:
    # The same options as the host's TextGenerate node: the model's own chat template, no padding, no thinking.
    return clip.tokenize(
        text,
        image=picture[None],
        skip_template=False,
        min_length=1,
        thinking=False,
        max_soft_tokens=GEMMA4_PICTURE_TOKENS,
    )


def _pictures_in(tokens: Any) -> int:
    """How many pictures are among the tokens, which are lists of (token, weight), possibly in a dictionary."""
    rows = [row for rows in tokens.values() for row in rows] if isinstance(tokens, dict) else tokens
    return sum(isinstance(pair[0], dict) and pair[0].get("type") == "image" for row in rows for pair in row)
