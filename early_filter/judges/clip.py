"""A judge by CLIP or SigLIP embeddings of source, edit and instruction, from a local folder in transformers' format."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from typing_extensions import override

from ..judge import Candidate, Judge, Poll, Question, Verdict
from .pictures import unusable

MODEL_TYPES = ("clip", "siglip")
BATCH = 8

NEUTRAL_TEXT = "a photo"
"""The text that an instruction is compared with: the direction goes from here, as no caption of the source is known."""

SMALLEST_CHANGE = 1e-4
"""When two unit embeddings are closer than this, the direction between them is only rounding."""

PutOnDevice = Callable[[], torch.device]
"""Puts the model onto the device that it is to run on, and returns that device."""


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a CLIP or SigLIP model in transformers' format, by its config.json."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") in MODEL_TYPES


@dataclass(frozen=True, eq=False)
class Encoder:
    """A CLIP or SigLIP model with its processor. Embeddings have length 1."""

    model: Any
    processor: Any
    place: PutOnDevice = field(repr=False)

    @classmethod
    def load(cls, folder: Path, placed: Callable[[torch.nn.Module], PutOnDevice]) -> "Encoder":
        """Read a model folder: safetensors only, no code from the folder, no network.

        Args:
            folder: holds config.json, *.safetensors, the tokenizer's and the preprocessor's files.
            placed: takes the model, and returns the function that puts it onto its device.

        Raises:
            ValueError: the folder is not complete or not readable.
        """
        if not is_model_folder(folder):
            raise ValueError(f"The folder {folder.name!r} holds no CLIP or SigLIP model (no config.json that says so).")
        if not any(folder.glob("*.safetensors")):
            raise ValueError(
                f"The folder {folder.name!r} holds no *.safetensors file. Other formats are not read, because they can "
                "run code; download the safetensors version."
            )
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoProcessor

        way_out = "Download the whole folder again, with tokenizer and preprocessor_config.json."
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            model, report = AutoModel.from_pretrained(folder, use_safetensors=True, output_loading_info=True, **local)
            processor = AutoProcessor.from_pretrained(folder, **local)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
            raise ValueError(f"The model in {folder.name!r} could not be read: {error} {way_out}") from error
        # transformers fills gaps with random numbers and only warns.
        if missing := sorted(report["missing_keys"]):
            raise ValueError(
                f"The model in {folder.name!r} lacks {len(missing)} of its weights, for example {missing[0]}. {way_out}"
            )
        return cls(model, processor, placed(model.eval().float().requires_grad_(False)))

    @torch.inference_mode()
    def pictures(self, images: Sequence[Tensor], poll: Poll) -> Tensor:
        """Pictures `h w 3` in 0..1 to embeddings `n d`, in batches.

        They are resized to the model's square without keeping their proportions; CLIP's usual crop cuts the sides off.
        """
        size = self.model.config.vision_config.image_size
        found = []
        for start in range(0, len(images), BATCH):
            poll()
            device = self.place()
            batch = [
                image.detach().float().cpu().clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
                for image in images[start : start + BATCH]
            ]
            inputs = self.processor.image_processor(
                images=batch, size={"height": size, "width": size}, do_center_crop=False, return_tensors="pt"
            )
            found.append(_unit(self.model.get_image_features(pixel_values=inputs["pixel_values"].to(device))))
        return torch.cat(found)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Texts to embeddings `n d`; a text that is too long for the model is cut."""
        length = self.model.config.text_config.max_position_embeddings
        device = self.place()
        inputs = self.processor.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        return _unit(self.model.get_text_features(**inputs.to(device)))


@dataclass(frozen=True)
class CLIPJudge(Judge):
    """Scores edits by a weighted sum of three cosines.

    In ICEdit's paper agreement with the text alone was worse than no filter (0.65 against 0.68): it prefers pictures
    that look like the words, edits of the source or not. The other two terms take the source into account.

    Attributes:
        encoder: embeds pictures and texts.
        text: weight of the edit's agreement with the instruction.
        source: weight of the edit's agreement with the source picture.
        direction: weight of the agreement of the change (edit minus source) with the instruction (minus "a photo").
        title: its name in reports.
    """

    encoder: Encoder
    text: float = 1.0
    source: float = 0.5
    direction: float = 0.5
    title: str = "CLIP"

    def __post_init__(self) -> None:
        weights = (self.text, self.source, self.direction)
        if not all(0 <= weight < math.inf for weight in weights) or max(weights) == 0:
            raise ValueError(
                f"The weights are {weights}: all must be numbers, none below 0, and one at least above it."
            )

    @property
    @override
    def name(self) -> str:
        return self.title

    @property
    @override
    def reads_instruction(self) -> bool:
        return self.text > 0 or self.direction > 0

    @override
    def score(self, question: Question, edits: Sequence[Candidate], poll: Poll) -> list[Verdict]:
        verdicts = [unusable(edit) for edit in edits]
        asked = [index for index, verdict in enumerate(verdicts) if verdict is None]
        if asked:
            pictures = self.encoder.pictures([question.source, *(edits[index].panel for index in asked)], poll).cpu()
            instruction, neutral = self.encoder.texts([question.instruction, NEUTRAL_TEXT]).cpu()
            for index, edit in zip(asked, pictures[1:], strict=True):
                verdicts[index] = self._verdict(edit, pictures[0], instruction, neutral)
        return [verdict or Verdict() for verdict in verdicts]

    def _verdict(self, edit: Tensor, source: Tensor, instruction: Tensor, neutral: Tensor) -> Verdict:
        change, wanted = edit - source, instruction - neutral
        terms = {
            "text": (self.text, float(edit @ instruction)),
            "source": (self.source, float(edit @ source)),
            "direction": (
                self.direction,
                float(F.cosine_similarity(change, wanted, dim=0)) if float(change.norm()) > SMALLEST_CHANGE else 0.0,
            ),
        }
        reasons = tuple(f"{name} {value:.4f}, weight {weight:g}" for name, (weight, value) in terms.items())
        return Verdict(score=sum(weight * value for weight, value in terms.values()), reasons=reasons)


def _unit(features: Any) -> Tensor:
    # transformers 5 wraps the features, 4 returns them.
    return F.normalize(getattr(features, "pooler_output", features).float(), dim=-1)
