"""Answers from vision-language models that the host runs, as CLIP objects."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...early_filter.judges.pictures import compose
from ...early_filter.judges.prompts import AnswerSampling, Request

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


def check_can_see_and_answer(clip: Any, pictures: int = 1) -> None:
    """Check that a CLIP object is a model that generates text about so many pictures at once.

    Raises:
        ValueError: there is none, it cannot generate text, or it does not look at so many pictures.
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
    if not sees or _pictures_in(_tokens(clip, "What is this?", [torch.zeros(64, 64, 3)])) != 1:
        raise ValueError(
            f"The model at clip ({model_name(clip)}) generates text, but not about pictures. {WHICH_MODELS}"
        )
    if pictures > 1 and _pictures_in(_tokens(clip, "What is this?", [torch.zeros(64, 64, 3)] * pictures)) != pictures:
        raise ValueError(
            f"The model at clip ({model_name(clip)}) looks at one picture at a time, and this style asks about "
            f"{pictures} at once. Load Qwen3-VL, for which the trained judges were made, or set style to general."
        )


def answers(clip: Any, requests: Sequence[Request], poll: Callable[[], None]) -> list[str]:
    """The model's answer to each request: the likeliest one, or drawn as the request says.

    Pictures that are not shown separately are put into one. `poll` is called before each request; while a text is
    generated, the host itself checks for interrupts at each token.
    """
    said = []
    for request in requests:
        poll()
        pictures = [picture.image for picture in request.pictures] if request.separate else [compose(request.pictures)]
        written = clip.generate(_tokens(clip, request.text, pictures), **_drawn(request.sampling))
        said.append(clip.decode(written).strip())
        log.debug("asked: %s\nanswered: %s", request.text, said[-1])
    return said


def _drawn(sampling: AnswerSampling | None) -> dict[str, Any]:
    if sampling is None:
        return {"do_sample": False, "max_length": MAX_TOKENS, "seed": 0}
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    # What the host would add by itself is not part of these settings.
    drawn |= {"min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0}
    return {"do_sample": sampling.temperature > 0, "max_length": sampling.max_tokens, "seed": sampling.seed, **drawn}


def model_name(clip: Any) -> str:
    """The name of the model in reports and errors: the host's name for its type."""
    return str(getattr(clip.cond_stage_model, "clip_name", None) or type(clip.cond_stage_model).__name__)


def _tokens(clip: Any, text: str, pictures: Sequence[Tensor]) -> Any:
    """Of a text about pictures `h w 3` in 0..1, all of one size."""
    # The same options as the host's TextGenerate node: the model's own chat template, no padding, no thinking.
    return clip.tokenize(
        text,
        image=torch.stack(list(pictures)),
        skip_template=False,
        min_length=1,
        thinking=False,
        max_soft_tokens=GEMMA4_PICTURE_TOKENS,
    )


def _pictures_in(tokens: Any) -> int:
    """How many pictures are among the tokens, which are lists of (token, weight), possibly in a dictionary."""
    rows = [row for rows in tokens.values() for row in rows] if isinstance(tokens, dict) else tokens
    return sum(isinstance(pair[0], dict) and pair[0].get("type") == "image" for row in rows for pair in row)
