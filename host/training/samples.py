"""What an adapter in training makes of held-out pairs, by the host's own sampling."""

from dataclasses import dataclass
from typing import Any

import comfy.sample
import torch
from torch import Tensor

from ...training.pairs.pair import EditPair
from ...training.settings import TrainingSettings
from ...training.sheet import EditSample
from .encode import EncodedPairs, right_panel_mask
from .fill_model import FillVelocity

MOST = 3
"""Held-out pairs that are looked at."""
STEPS = 16


@dataclass(frozen=True, eq=False)
class HeldOutSamples:
    """Samples of the first held-out pairs, always with the same noise."""

    model: Any
    vae: Any
    velocity: FillVelocity
    data: EncodedPairs
    settings: TrainingSettings

    @property
    def pairs(self) -> tuple[EditPair, ...]:
        return self.data.pairs.held_out[:MOST]

    def take(self) -> list[EditSample]:
        """Sample and decode. The host may unload the model for it, so it has to be loaded again afterwards."""
        with self.velocity.sampling():
            latents = [self._sampled(pair) for pair in self.pairs]
        # Decoding may move the model, so it comes after all sampling.
        with torch.inference_mode():
            return [self._decoded(pair, latent) for pair, latent in zip(self.pairs, latents, strict=True)]

    def _sampled(self, pair: EditPair) -> Tensor:
        picture, sentence = self.data.picture(pair), self.data.sentence(pair.instructions[0])
        height, width = self.data.pairs.bucket(pair)
        mask = right_panel_mask(height, width)[:, None]
        extra = {
            "pooled_output": sentence["pooled"],
            "guidance": self.settings.guidance,
            "concat_latent_image": picture["masked"],
            "concat_mask": mask,
        }
        condition = [[sentence["text"], extra]]
        latent = picture["latent"]
        return comfy.sample.sample(
            self.model,
            comfy.sample.prepare_noise(latent, self.settings.seed),
            STEPS,
            1.0,
            "euler",
            "simple",
            condition,
            condition,
            latent,
            noise_mask=mask,
            disable_pbar=True,
            seed=self.settings.seed,
        )

    def _decoded(self, pair: EditPair, latent: Tensor) -> EditSample:
        before, wanted = self.data.pairs.pictures(pair)
        now = self.vae.decode(latent)[0].float().cpu()
        return EditSample(pair.instructions[0], before, now[:, before.shape[1] :], wanted)
