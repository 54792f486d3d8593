"""The text-to-image model: a FLUX.1-dev that draws diptychs of the picture world, and single ones, from captions."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import text
from .dataset import COLUMNS, ROWS, EncodedEdits
from .fit import TrainingSchedule, fit
from .flux import TEXT_TO_IMAGE_INPUTS, Flux, MiniFluxShape, position_embedding
from .prompts import scene_caption, text_to_image_prompt
from .scene import Scene
from .stages import CHANGED_WEIGHT, GUIDANCES, model_optimizers, random_times, time_weight

RATE = 1e-3
"""Lower than the base model's, from which it starts."""
DIPTYCHS, PANELS = 32, 48
"""How many a batch has."""
TOKENS = 72
"""T5 tokens of the longest sentence with a description. All are padded to them, so that compiled code fits."""
LEFT_WEIGHT = 0.25
"""The weight of the left panel, which the workflows give and no sentence tells in full."""
PANEL_SHARE = 0.2
"""The share of batches of single pictures, which the inversion and FlowEdit take alone."""
DESCRIBED, CAPTIONED = 0.7, 0.3
"""The shares of sentences with a description of the left picture, and with the difference in a caption's words."""


@dataclass(frozen=True)
class CaptionedBatch:
    """Pictures as patches `b (rows columns) 64`, the weight of each patch `b (rows columns)`, and their sentences."""

    patches: Tensor
    weight: Tensor
    sentences: list[str]
    columns: int


def random_diptychs(data: Sequence[EncodedEdits], draw: random.Random) -> CaptionedBatch:
    """Both panels, with a sentence as the training-free workflows have it."""
    drawn = [(part, draw.randrange(len(part.edits))) for part in draw.choices(data, k=DIPTYCHS)]
    patches = torch.stack([part.diptych[index] for part, index in drawn]).float()
    changed = torch.stack([part.changed[index] for part, index in drawn]).float()
    weight = torch.full((DIPTYCHS, ROWS, COLUMNS), LEFT_WEIGHT)
    weight[..., COLUMNS // 2 :] = 1.0
    weight[..., COLUMNS // 2 :] += (CHANGED_WEIGHT - 1) * changed.unflatten(1, (ROWS, -1))
    sentences = [
        text_to_image_prompt(part.edits[index], draw.random() < DESCRIBED, draw.random() < CAPTIONED)
        for part, index in drawn
    ]
    return CaptionedBatch(patches, weight.flatten(1), sentences, COLUMNS)


def random_panels(data: Sequence[EncodedEdits], draw: random.Random) -> CaptionedBatch:
    """Single pictures, each with its caption."""
    patches, sentences = [], []
    for part in draw.choices(data, k=PANELS):
        index, side = draw.randrange(len(part.edits)), draw.randrange(2)
        panels = part.diptych[index].unflatten(0, (ROWS, 2, COLUMNS // 2))
        patches.append(panels[:, side].flatten(0, 1).float())
        sentences.append(scene_caption(_scene(part, index, side)))
    return CaptionedBatch(torch.stack(patches), torch.ones(PANELS, ROWS * COLUMNS // 2), sentences, COLUMNS // 2)


def _scene(part: EncodedEdits, index: int, side: int) -> Scene:
    edit = part.edits[index]
    return edit.after if side else edit.before


@dataclass(frozen=True)
class CaptionedSetup:
    """What the text-to-image model is trained on."""

    edits: Sequence[EncodedEdits]
    encoders: text.TextEncoders
    tokenizers: text.Tokenizers
    device: torch.device
    compiled: bool = True


class TextToImage:
    """The flow matching loss of a FLUX.1-dev on captioned pictures."""

    def __init__(self, model: Flux, setup: CaptionedSetup) -> None:
        self._network = torch.compile(model) if setup.compiled else model
        self._setup = setup

    def __call__(self) -> Tensor:
        draw = random.Random(torch.initial_seed())
        panels = draw.random() < PANEL_SHARE
        return self.loss((random_panels if panels else random_diptychs)(self._setup.edits, draw))

    def loss(self, batch: CaptionedBatch) -> Tensor:
        """Squared error of the velocity of all patches."""
        device = self._setup.device
        clip, t5, words = self._setup.tokenizers.long(batch.sentences, TOKENS)
        with torch.inference_mode():
            context, pooled = self._setup.encoders(clip, t5, words)
        # Outside of inference mode: a clone can be saved for the gradient.
        context, pooled = context.clone().to(device), pooled.clone().to(device)
        patches = batch.patches.to(device)
        t = random_times(len(patches)).to(device)
        guidance = torch.tensor(GUIDANCES)[torch.randint(0, len(GUIDANCES), (len(patches),))].to(device)
        noise = torch.randn(patches.shape).to(device)
        rotation = position_embedding(t5.shape[1], ROWS, batch.columns).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            noisy = torch.lerp(patches, noise, t[:, None, None])
            velocity = self._network(noisy, rotation, t, context, pooled, guidance, words.to(device))
        error = (velocity.float() - (noise - patches)).square().mean(-1)
        return (error * batch.weight.to(device) * time_weight(t)[:, None]).mean()


def from_fill(base: Flux) -> Flux:
    """A text-to-image model that starts with what the FLUX.1-Fill has learned.

    What the Fill does with the picture that it is shown, this one does with its noisy latent, at half the strength: it
    starts with half the error.
    """
    shape = MiniFluxShape(context=text.T5["d_model"], vector=text.CLIP_L["hidden_size"], inputs=TEXT_TO_IMAGE_INPUTS)
    model = Flux(shape)
    state = base.state_dict()
    latent, known, mask = state["img_in.weight"].split((64, 64, 256), 1)
    own = {"img_in.weight": latent + known / 2, "img_in.bias": state["img_in.bias"] + mask.sum(1) / 2}
    model.load_state_dict(state | own)
    return model


def train_text_to_image(file: Path, steps: int, base: Flux, setup: CaptionedSetup) -> Flux:
    """The text-to-image model. Every weight is trained."""
    model = from_fill(base).to(setup.device)
    fit(model, TextToImage(model, setup), model_optimizers(model, RATE), TrainingSchedule(steps, average=0.998), file)
    return model
