"""Edits in the form that the diffusion model is trained on: encoded diptychs and sentences."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import edits
from .autoencoder import LatentEncoder
from .edits import SceneEdit
from .flux import patchify
from .prompts import description_prompt
from .render import render
from .scene import PANEL
from .text import TextEncoders, Tokenizers

EDITS_PER_SCENE = 3
FREQUENCY = {"recolour": 1.0, "remove": 1.0, "add": 1.3, "background": 1.0, "swap": 3.5, "restyle": 2.0}
"""How often each task is drawn, relative to the others. Changes of shape take longest to learn."""
VISIBLE = 0.05
GREY = 0.5
"""The value with which the host fills the masked part of a picture."""

ROWS, COLUMNS = PANEL // 16, 2 * PANEL // 16
"""Patches of a diptych: 16 x 16 pixels each."""


@dataclass(frozen=True)
class EncodedEdits:
    """Edits, encoded. The source of edit number i is row `i // EDITS_PER_SCENE` of `masked`.

    Attributes:
        edits: the edits themselves.
        diptych: source and wanted picture, latent patches `edits 128 64`, half precision.
        masked: source and grey, latent patches `scenes 128 64`, half precision.
        changed: patches of the right panel that differ from the source, `edits 64`.
    """

    edits: list[SceneEdit]
    diptych: Tensor
    masked: Tensor
    changed: Tensor


def encode_edits(seed: int, scenes: int, encoder: LatentEncoder, file: Path) -> EncodedEdits:
    """Random edits, `EDITS_PER_SCENE` for each random scene. They are encoded once and kept in `file`."""
    draw, drawn = random.Random(seed), []
    for _ in range(scenes):
        first = edits.random_edit(draw)
        drawn += [first, *(edits.random_edit(draw, scene=first.before) for _ in range(EDITS_PER_SCENE - 1))]
    if not file.exists():
        scratch = file.with_suffix(".part")
        save_file(_encoded(drawn, encoder), scratch)
        os.replace(scratch, file)
    return EncodedEdits(drawn, **load_file(file))


def _encoded(drawn: list[SceneEdit], encoder: LatentEncoder) -> dict[str, Tensor]:
    before = torch.stack([render(edit.before) for edit in drawn[::EDITS_PER_SCENE]])
    after = torch.stack([render(edit.after) for edit in drawn])
    source = before.repeat_interleave(EDITS_PER_SCENE, 0)
    masked = _encode(encoder, torch.cat([before, torch.full_like(before, GREY)], 3))
    diptych = _encode(encoder, torch.cat([source, after], 3))
    return {"diptych": diptych, "masked": masked, "changed": changed_patches(source, after)}


def changed_patches(before: Tensor, after: Tensor) -> Tensor:
    """Which patches `b 64` of panels `b 3 128 128` differ visibly."""
    differs = (after - before).abs().amax(1) > VISIBLE
    return differs.unflatten(1, (ROWS, 16)).unflatten(3, (COLUMNS // 2, 16)).amax((2, 4)).flatten(1)


@torch.inference_mode()
def _encode(encoder: LatentEncoder, pictures: Tensor) -> Tensor:
    device = next(encoder.parameters()).device
    latents = [encoder(part.to(device)).cpu().half() for part in pictures.split(16)]
    return patchify(torch.cat(latents))


class Sentences:
    """Encoded sentences, each encoded once."""

    def __init__(self, encoders: TextEncoders, tokenizers: Tokenizers) -> None:
        self._encoders, self._tokenizers = encoders, tokenizers
        self._known: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.inference_mode()
    def __call__(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Context `b 48 64` and pooled `b 48`."""
        new = list(dict.fromkeys(text for text in sentences if text not in self._known))
        for start in range(0, len(new), 256):
            part = new[start : start + 256]
            context, pooled = self._encoders(*self._tokenizers(part))
            self._known |= {text: (context[i].clone(), pooled[i].clone()) for i, text in enumerate(part)}
        found = [self._known[text] for text in sentences]
        return torch.stack([context for context, _ in found]), torch.stack([pooled for _, pooled in found])


@dataclass(frozen=True)
class Batch:
    """Patches `b 128 64` of diptychs and of masked diptychs, which patches change (`b 64`), and the encoded text."""

    diptych: Tensor
    masked: Tensor
    changed: Tensor
    context: Tensor
    pooled: Tensor


def _draw(part: EncodedEdits, draw: random.Random) -> int:
    return draw.choices(range(len(part.edits)), [FREQUENCY[edit.task] for edit in part.edits])[0]


def random_batch(data: Sequence[EncodedEdits], sentences: Sentences, size: int, draw: random.Random) -> Batch:
    """A random batch with the tasks distributed as in `FREQUENCY`."""
    drawn = [(part, _draw(part, draw)) for part in draw.choices(data, k=size)]
    context, pooled = sentences([description_prompt(part.edits[index]) for part, index in drawn])
    return Batch(
        torch.stack([part.diptych[index] for part, index in drawn]).float(),
        torch.stack([part.masked[index // EDITS_PER_SCENE] for part, index in drawn]).float(),
        torch.stack([part.changed[index] for part, index in drawn]),
        context,
        pooled,
    )
