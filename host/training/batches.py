"""From drawn pairs to the gradients of a step."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...training.adapter import TrainedAdapter
from ...training.draw import DrawnPair, drawn_pairs, drawn_times, step_generator
from ...training.loss import loss_weights, noisy_latents, velocity_loss
from ...training.pairs.pair import EditPair
from ...training.settings import LEARNED, TrainingSettings
from .. import interrupts
from .encode import EncodedPairs, right_panel_mask
from .fill_model import FillVelocity

DECISIVE = 0.8
"""A time at which noise hides details but not yet everything."""


@dataclass(frozen=True)
class _Example:
    """A drawn pair with its noise, everything with a batch of one."""

    picture: dict[str, Tensor]
    sentence: dict[str, Tensor]
    time: Tensor
    noise: Tensor

    @property
    def kind(self) -> tuple[Any, ...]:
        """Examples of one kind can share a batch: pictures of one size, sentences of one length."""
        return tuple(self.noise.shape), tuple(self.sentence["text"].shape)


@dataclass(frozen=True, eq=False)
class StepGradients:
    """Adds a step's gradients to the adapter's parameters."""

    model: Any
    velocity: FillVelocity
    adapter: TrainedAdapter
    data: EncodedPairs
    settings: TrainingSettings

    def __call__(self, step: int) -> float:
        examples, total = self._examples(step), 0.0
        with self.velocity.training():
            for batch in _batches(examples, self.settings.batch_size):
                interrupts.poll()
                share = len(batch) / len(examples)
                loss = self._loss(batch)
                whole = loss + self.settings.balance * self.adapter.balance() if self._balanced else loss
                (whole * share).backward()
                total += loss.item() * share
        return total

    def expert_counts(self, pair: EditPair) -> Tensor:
        """How many tokens of a pair went to each expert, `layers experts`, at a time that decides about the layout."""
        generator = step_generator(self.settings.seed, 0)
        example = self._example(DrawnPair(pair, pair.instructions[0]), torch.tensor([DECISIVE]), generator)
        with self.velocity.sampling():
            self._loss([example])
            tokens = example.noise.shape[-1] * example.noise.shape[-2] // 4
            return torch.stack([layer.share.double().cpu() * tokens for layer in self.adapter.experts])

    @property
    def _balanced(self) -> bool:
        return self.settings.routed and self.settings.router == LEARNED and self.settings.balance > 0

    def _examples(self, step: int) -> list[_Example]:
        settings = self.settings
        drawn = drawn_pairs(self.data.pairs.pairs, settings.seed, step, settings.samples, settings.caption_dropout)
        generator = step_generator(settings.seed, step)
        times = drawn_times(len(drawn), settings, generator)
        return [self._example(*found, generator) for found in zip(drawn, times[:, None], strict=True)]

    def _example(self, drawn: DrawnPair, time: Tensor, generator: torch.Generator) -> _Example:
        picture = self.data.picture(drawn.pair)
        noise = torch.randn(picture["latent"].shape, generator=generator)
        return _Example(picture, self.data.sentence(drawn.instruction), time, noise)

    def _loss(self, batch: Sequence[_Example]) -> Tensor:
        def together(parts: Iterable[Tensor]) -> Tensor:
            return torch.cat(list(parts)).to(self.model.load_device)

        picture = {name: together(example.picture[name] for example in batch) for name in batch[0].picture}
        sentence = {name: together(example.sentence[name] for example in batch) for name in batch[0].sentence}
        noise, times = together(example.noise for example in batch), together(example.time for example in batch)
        latents = self.model.model.process_latent_in(picture["latent"])
        shown = shown_to_fill(self.model, noise, picture["masked"])
        noisy = noisy_latents(latents, noise, times)
        velocity = self.velocity(noisy, times, shown, sentence["text"], sentence["pooled"], self.settings.guidance)
        return velocity_loss(velocity, latents, noise, loss_weights(picture["changed"], self.settings))


def shown_to_fill(model: Any, noise: Tensor, masked: Tensor) -> Tensor:
    """What the host shows Fill beside noisy latents: the picture around the mask, and the mask; `b 80 h w`."""
    height, width = (8 * size for size in noise.shape[-2:])
    mask = right_panel_mask(height, width // 2)[:, None].to(noise.device)
    return model.model.concat_cond(noise=noise, concat_latent_image=masked, concat_mask=mask, device=noise.device)


def _batches(examples: Sequence[_Example], most: int) -> list[list[_Example]]:
    kinds: dict[tuple[Any, ...], list[_Example]] = defaultdict(list)
    for example in examples:
        kinds[example.kind].append(example)
    return [kind[first : first + most] for kind in kinds.values() for first in range(0, len(kind), most)]
