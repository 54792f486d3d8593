"""The stages of training: autoencoder, text encoders, base model. Those that follow are in adapters.py and
text_to_image.py.

Every stage takes the results of those before it and a file for its checkpoint.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d
from tqdm import trange

from . import text
from .autoencoder import DECODER_BLOCKS, DECODER_WIDTHS, Autoencoder, Decoder
from .dataset import COLUMNS, ROWS, Batch, EncodedEdits, Sentences, encode_edits, random_batch
from .fit import TrainingSchedule, fit
from .flux import Flux, MiniFluxShape, patchify, position_embedding
from .render import render
from .scene import PANEL, random_scene

SHIFT = math.exp(1.15)
"""FLUX's time shift, as the host samples."""
GUIDANCES = (1.0, 3.5, 30.0, 50.0)
CHANGED_WEIGHT = 5.0
"""The weight of patches that the edit changes. Most patches stay as they are, and copying is learned early."""
EDGE_WEIGHT = 8.0
"""The additional weight of the autoencoder's error where the picture has full contrast."""
FINE = 0.5
"""Below this time the weight falls in proportion to the time: there a sampler has the picture nearly done."""


@dataclass(frozen=True)
class Steps:
    """Steps of each stage, as for the shipped files. The autoencoder is trained on `pictures`, the diffusion model on
    `chunks` of `scenes`, the adapters on the first `pairs` of their edits."""

    autoencoder: int = 2750
    decoder: int = 5000
    text: int = 1850
    base: int = 13_500
    lora: int = 2400
    moe: int = 5700
    text_to_image: int = 20_000
    chunks: int = 44
    scenes: int = 400
    pictures: int = 4000
    pairs: int = 12_000


def train_autoencoder(file: Path, steps: int, pictures: int, device: torch.device) -> Autoencoder:
    """The autoencoder on crops of scenes."""
    torch.manual_seed(0)
    model = Autoencoder().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-4, weight_decay=0.0, betas=(0.9, 0.99))
    fit(model, _Reconstruction(model, pictures, device), [optimizer], TrainingSchedule(steps, decay=1.0), file)
    return model


def refine_decoder(file: Path, steps: int, pictures: int, trained: Autoencoder, device: torch.device) -> Autoencoder:
    """A larger decoder for the finished encoder. The latents, which the diffusion model learns, do not change."""
    torch.manual_seed(0)
    model = Autoencoder(Decoder(DECODER_WIDTHS, DECODER_BLOCKS)).to(device)
    model.encoder.load_state_dict(trained.encoder.state_dict())
    model.encoder.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=8e-4, weight_decay=0.0, betas=(0.9, 0.99))
    loss = _Reconstruction(model, pictures, device, frozen_encoder=True)
    fit(model, loss, [optimizer], TrainingSchedule(steps, decay=1.0), file)
    return model


class _Reconstruction:
    """The error of random crops, encoded and decoded again with some noise on the latents."""

    def __init__(self, model: Autoencoder, pictures: int, device: torch.device, frozen_encoder: bool = False) -> None:
        self.model, self.frozen = model, frozen_encoder
        draw = random.Random(0)
        self._pictures = torch.stack([render(random_scene(draw)) for _ in range(pictures)]).to(device)

    def __call__(self) -> Tensor:
        corner = torch.randint(0, PANEL // 2 + 1, (2,)).tolist()
        rows, columns = (slice(at, at + PANEL // 2) for at in corner)
        part = self._pictures[torch.randint(0, len(self._pictures), (24,)), :, rows, columns]
        part = part.contiguous(memory_format=torch.channels_last)
        if self.frozen:
            self.model.encoder.eval()
        with torch.autocast(part.device.type, torch.bfloat16):
            latent = self.model.encoder(part).float()
            back = self.model.decoder(latent + 0.1 * torch.randn_like(latent)).float()
        error = 4 * (back - part).square() + (back - part).abs()
        return (error * (1 + EDGE_WEIGHT * contrast(part))).mean()


def contrast(picture: Tensor) -> Tensor:
    """The range of values around each pixel of `b 3 h w`, as `b 1 h w`: high at edges, which take longest to learn."""
    spread = max_pool2d(picture, 5, 1, 2) + max_pool2d(-picture, 5, 1, 2)
    return spread.amax(1, keepdim=True)


def train_text(file: Path, steps: int, tokenizers: text.Tokenizers) -> text.TextEncoders:
    """Both text encoders, on the CPU."""
    model = text.Naming()
    model.init_weights()

    def loss() -> Tensor:
        draw = random.Random(torch.initial_seed())
        sentences, slots = text.slot_batch(draw, 64)
        return model(*tokenizers(sentences), slots)[0]

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0, betas=(0.9, 0.98))
    fit(model, loss, [optimizer], TrainingSchedule(steps, decay=1.0), file)
    return model.encoders


def encoded_chunks(folder: Path, steps: Steps, autoencoder: Autoencoder) -> list[EncodedEdits]:
    """The training edits, encoded once and kept in `folder`."""
    folder.mkdir(exist_ok=True)
    chunks = trange(steps.chunks, desc="edits", dynamic_ncols=True)
    encoder = autoencoder.encoder
    return [encode_edits(seed, steps.scenes, encoder, folder / f"{seed:04d}.safetensors") for seed in chunks]


@dataclass(frozen=True)
class DiffusionSetup:
    """What the base model is trained on: edits, their sentences, the device."""

    edits: Sequence[EncodedEdits]
    sentences: Sentences
    device: torch.device
    compiled: bool = True


class Diffusion:
    """The flow matching loss of a FLUX.1-Fill on encoded edits."""

    def __init__(self, model: Flux, setup: DiffusionSetup) -> None:
        self.model, self.device = model, setup.device
        self._setup = setup
        self._network = torch.compile(model) if setup.compiled else model
        self._rotation = position_embedding(text.T5_TOKENS, ROWS, COLUMNS).to(self.device)
        self._mask = diptych_mask().to(self.device)
        self._right = torch.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)[:, COLUMNS // 2 :].flatten()

    def __call__(self) -> Tensor:
        draw = random.Random(torch.initial_seed())
        return self.loss(random_batch(self._setup.edits, self._setup.sentences, 32, draw))

    def loss(self, batch: Batch) -> Tensor:
        """Squared error of the velocity of the right panel's patches."""
        diptych = batch.diptych.to(self.device)
        t = random_times(len(diptych)).to(self.device)
        guidance = torch.tensor(GUIDANCES)[torch.randint(0, len(GUIDANCES), (len(diptych),))].to(self.device)
        noise = torch.randn(diptych.shape).to(self.device)
        noisy = torch.lerp(diptych, noise, t[:, None, None])
        mask = self._mask.expand(len(diptych), -1, -1)
        patches = torch.cat([noisy, batch.masked.to(self.device), mask], -1)
        with torch.autocast(self.device.type, torch.bfloat16):
            context, pooled = batch.context.to(self.device), batch.pooled.to(self.device)
            velocity = self._network(patches, self._rotation, t, context, pooled, guidance)
        error = (velocity.float() - (noise - diptych))[:, self._right].square()
        weight = 1 + (CHANGED_WEIGHT - 1) * batch.changed.to(self.device).float()
        weight = weight * time_weight(t)[:, None]
        return (error * weight[..., None]).mean()


def random_times(count: int) -> Tensor:
    """Times `count` as a sampler with FLUX's shift goes through them."""
    uniform = torch.rand(count).clamp(min=1e-4)
    return SHIFT / (SHIFT + (1 / uniform - 1))


def time_weight(t: Tensor) -> Tensor:
    """The weight of the error at times `b`."""
    return (t / FINE).clamp(max=1.0)


def diptych_mask() -> Tensor:
    """The host's mask channels `1 128 256`: 1 on the right panel, one channel for each of 8 x 8 pixels."""
    mask = torch.zeros(1, 64, 2 * ROWS, 2 * COLUMNS)
    mask[..., COLUMNS:] = 1.0
    return patchify(mask)


def train_base(file: Path, steps: int, setup: DiffusionSetup) -> Flux:
    """The base model: it fills the right panel according to a caption of the difference."""
    model = new_flux().to(setup.device)
    loss = Diffusion(model, setup)
    fit(model, loss, model_optimizers(model, 2e-3), TrainingSchedule(steps, average=0.999), file)
    return model


def model_optimizers(model: Flux, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest."""
    blocks = {id(weight) for name, weight in model.named_parameters() if "_blocks." in name and weight.ndim == 2}
    matrices = [weight for weight in model.parameters() if id(weight) in blocks]
    others = [weight for weight in model.parameters() if id(weight) not in blocks]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def new_flux() -> Flux:
    """The base model before training: its blocks are near the identity, the first attends to the other panel."""
    torch.manual_seed(0)
    shape = MiniFluxShape(context=text.T5["d_model"], vector=text.CLIP_L["hidden_size"])
    model = Flux(shape)
    model.init_weights(panel_columns=COLUMNS // 2)
    return model
