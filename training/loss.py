"""The velocity loss of a diptych, and where it is measured."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from .settings import TrainingSettings

PATCH = 16
"""Pixels of a token's side."""
VISIBLE = 0.05
"""A difference of two pictures that counts as a change."""


def changed_patches(source: Tensor, edited: Tensor) -> Tensor:
    """Which patches `(h 16) (w 16)` of two pictures `h w 3` differ visibly, as bool `h w`."""
    difference = (edited - source).abs().amax(-1)[None, None]
    # Averages of a few pixels: what compression does to single ones is no edit.
    coarse = avg_pool2d(difference, 2)
    return max_pool2d(coarse, PATCH // 2)[0, 0] > VISIBLE


def loss_weights(changed: Tensor, settings: TrainingSettings) -> Tensor:
    """The weight of each latent pixel `b 1 (h 2) (2 w 2)` of diptychs, for changed patches `b h w` of right panels.

    Without changes they add up to the number of latent pixels.
    """
    right = 1 + (settings.changed_weight - 1) * changed.float()
    left = torch.ones_like(right)
    both = 2 * torch.cat([left * (1 - settings.right_panel_weight), right * settings.right_panel_weight], -1)
    return both.repeat_interleave(2, -2).repeat_interleave(2, -1)[:, None]


def noisy_latents(latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Latents `b c h w` at times `b`: 0 is the picture, 1 is noise."""
    return torch.lerp(latents, noise, times[:, None, None, None])


def velocity_loss(velocity: Tensor, latents: Tensor, noise: Tensor, weights: Tensor) -> Tensor:
    """Weighted squared error of the velocity from picture to noise, `b c h w` each; a number."""
    return ((velocity.float() - (noise - latents)).square() * weights).mean()
