"""Pairs and sentences as the model sees them, encoded once and kept on disk.

A diptych and its conditions come from the same calls as at inference, so training sees what sampling will see.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...diptych.prompt import edit_prompt
from ...training.errors import TrainingError
from ...training.loss import PATCH, changed_patches
from ...training.pairs.pair import EditPair, EditPairs
from ...training.states import write_file
from .. import conditioning, interrupts
from .identity import model_identity

Tensors = dict[str, Tensor]

SHARE_OF_MEMORY = 0.25
"""Of the free memory, for what was read; more is read from disk at every use."""


@dataclass(frozen=True)
class Encoders:
    """Where pairs become latents and sentences become conditions."""

    clip: Any
    vae: Any
    dtype: torch.dtype
    """What the model computes in: text is kept in it, because it is cast to it before anything else."""


@dataclass(eq=False)
class EncodedPairs:
    """The encoded pairs of a training. `folder` may be shared by trainings on the same pairs."""

    pairs: EditPairs
    encoders: Encoders
    folder: Path
    _read: dict[Path, Tensors] = field(default_factory=dict)
    _room: float = 0.0

    def __post_init__(self) -> None:
        vae, clip = model_identity(self.encoders.vae.patcher), model_identity(self.encoders.clip.patcher)
        self._pictures = self.folder / f"pictures-{_short(self.pairs.fingerprint, vae)}"
        self._sentences = self.folder / f"sentences-{_short(clip, str(self.encoders.dtype))}"
        free = comfy.model_management.get_free_memory(torch.device("cpu"))
        self._room = SHARE_OF_MEMORY * float(free)

    def missing(self, pairs: Iterable[EditPair]) -> list[Callable[[], None]]:
        """What has to be done once before these pairs can be used: the parts are to be called one by one."""
        pairs = list(pairs)
        sentences = dict.fromkeys([None, *(text for pair in pairs for text in pair.instructions)])
        todo: list[Callable[[], None]] = []
        for text in sentences:
            if not (file := self._sentence_file(text)).exists():
                todo.append(lambda text=text, file=file: _write(file, self._encoded_sentence(text)))
        for pair in pairs:
            if not (file := self._picture_file(pair)).exists():
                todo.append(lambda pair=pair, file=file: _write(file, self._encoded_pair(pair)))
        return todo

    def picture(self, pair: EditPair) -> Tensors:
        """Of a pair: `latent` and `masked` `1 16 h (2 w)`, as the VAE gives them, and `changed` `1 h/2 w/2`."""
        return self._kept(self._picture_file(pair))

    def sentence(self, instruction: str | None) -> Tensors:
        """`text` `1 tokens d` and `pooled` `1 d` of the trained sentence around an instruction; None: no words."""
        return self._kept(self._sentence_file(instruction))

    def _kept(self, file: Path) -> Tensors:
        if file not in self._read:
            try:
                tensors = load_file(file)
            except (OSError, SafetensorError) as error:
                raise TrainingError(
                    f"The encoded pair {file} cannot be read any more ({error}). Delete it and run again: it is then "
                    "made anew."
                ) from error
            size = sum(tensor.nbytes for tensor in tensors.values())
            if size > self._room:
                return tensors
            self._room -= size
            self._read[file] = tensors
        return self._read[file]

    def _picture_file(self, pair: EditPair) -> Path:
        return self._pictures / f"{_short(pair.id)}.safetensors"

    def _sentence_file(self, instruction: str | None) -> Path:
        return self._sentences / f"{_short('' if instruction is None else edit_prompt(instruction))}.safetensors"

    @torch.inference_mode()
    def _encoded_sentence(self, instruction: str | None) -> Tensors:
        prompt = "" if instruction is None else edit_prompt(instruction)
        text, extra = conditioning.encode_prompt(self.encoders.clip, prompt, 0)[0]
        dtype = self.encoders.dtype
        return {"text": text.to(dtype), "pooled": extra["pooled_output"].to(dtype)}

    @torch.inference_mode()
    def _encoded_pair(self, pair: EditPair) -> Tensors:
        source, edited = self.pairs.pictures(pair)
        height, width = source.shape[:2]
        if height % PATCH or width % PATCH:
            raise TrainingError(
                f"The pictures of {pair.id} are {width} x {height}, expected multiples of {PATCH}. Load them with "
                "Load Edit Pairs, which fits them."
            )
        nothing = [[torch.zeros(1, 1, 1), {}]]
        shown, _, latent = conditioning.inpaint_conditioning(
            nothing, nothing, self.encoders.vae, torch.cat([source, edited], 1)[None], right_panel_mask(height, width)
        )
        return {
            "latent": latent["samples"].float(),
            "masked": shown[0][1]["concat_latent_image"].float(),
            "changed": changed_patches(source, edited)[None],
        }


def right_panel_mask(height: int, width: int) -> Tensor:
    """The mask `1 h (2 w)` of diptychs with panels of this size: the right panel is painted."""
    mask = torch.zeros(1, height, 2 * width)
    mask[..., width:] = 1.0
    return mask


def encode_all(todo: list[Callable[[], None]], done: Callable[[], None]) -> None:
    for part in todo:
        interrupts.poll()
        part()
        done()


def _write(file: Path, tensors: Tensors) -> None:
    write_file(file, {name: tensor.clone() for name, tensor in tensors.items()}, {"format": "pt"})


def _short(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:24]
