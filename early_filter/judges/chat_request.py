"""The body of a chat request as OpenAI-compatible servers take it."""

import json
from typing import Any

from .pictures import compose, data_url
from .prompts import AnswerSampling, Request

MAX_TOKENS = 1024
"""Room for models that think before they answer."""


def chat_body(model: str, request: Request, one_picture: bool, plain: bool = False) -> bytes:
    """The request as JSON.

    Args:
        one_picture: send one labelled picture instead of several, for models that take only one.
        plain: leave out what not every server knows: the answer's schema, and the number of words to draw from.
    """
    message = {
        "role": "user",
        "content": _separate(request, one_picture) if request.separate else _labelled(request, one_picture),
    }
    body: dict[str, Any] = {"model": model, "messages": [message], **_drawn(request.sampling, plain), "stream": False}
    if request.schema is not None and not plain:
        form = {"name": "answer", "strict": True, "schema": request.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return json.dumps(body).encode()


def _labelled(request: Request, one_picture: bool) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if one_picture:
        content.append(_image(data_url(compose(request.pictures))))
    else:
        for picture in request.pictures:
            content += [_text(f"{picture.label}:"), _image(data_url(picture.image))]
    return [*content, _text(request.text)]


def _separate(request: Request, one_picture: bool) -> list[dict[str, Any]]:
    if one_picture and len(request.pictures) > 1:
        names = ", ".join(picture.label for picture in request.pictures)
        told = f"The pictures stand side by side in one, each under its name, in this order: {names}."
        return [_image(data_url(compose(request.pictures))), _text(f"{told}\n\n{request.text}")]
    return [*(_image(data_url(picture.image)) for picture in request.pictures), _text(request.text)]


def _drawn(sampling: AnswerSampling | None, plain: bool) -> dict[str, Any]:
    if sampling is None:
        return {"temperature": 0, "seed": 0, "max_tokens": MAX_TOKENS}
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
    if sampling.top_k and not plain:
        drawn["top_k"] = sampling.top_k
    return drawn | {"max_tokens": sampling.max_tokens}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}
