"""Pictures for models: a check for NaN, several pictures as one with labels, JPEG data URLs."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..judge import Candidate, Verdict

JPEG_QUALITY = 95


@dataclass(frozen=True)
class ShownPicture:
    """A picture `h w 3` in 0..1 and what the prompt calls it."""

    label: str
    image: Tensor


def unusable(edit: Candidate) -> Verdict | None:
    """The verdict on a preview with NaN or infinite values, which no model can judge; None for all others."""
    if bool(torch.isfinite(edit.panel).all()):
        return None
    return Verdict(broken=True, reasons=("the preview holds NaN or infinite values",))


def compose(pictures: Sequence[ShownPicture]) -> Tensor:
    """All pictures with their labels as one square picture `s s 3`.

    Every vision-language model takes a single picture; it is square because some models crop others to their middle.
    """
    images = [_pillow(picture.image) for picture in pictures]
    width, height = max(image.width for image in images), max(image.height for image in images)
    bar = max(16, round(min(width, height) / 12))
    gap = max(2, bar // 4)
    columns = min(
        range(1, len(images) + 1),
        key=lambda count: max(count * width, math.ceil(len(images) / count) * (height + bar)),
    )
    rows = math.ceil(len(images) / columns)
    side = max(columns * (width + gap) + gap, rows * (height + bar + gap) + gap)
    canvas = Image.new("RGB", (side, side), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=round(bar * 0.75))
    for index, (picture, image) in enumerate(zip(pictures, images, strict=True)):
        left = gap + index % columns * (width + gap)
        top = gap + index // columns * (height + bar + gap)
        draw.text((left + 2, top), picture.label, fill="black", font=font)
        canvas.paste(image, (left, top + bar))
    return torch.from_numpy(np.asarray(canvas, dtype=np.float32) / 255.0)


def data_url(image: Tensor) -> str:
    """A picture `h w 3` as a JPEG data URL."""
    buffer = io.BytesIO()
    _pillow(image).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _pillow(image: Tensor) -> Image.Image:
    values = image.detach().float().cpu().clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
    return Image.fromarray(values.numpy())
