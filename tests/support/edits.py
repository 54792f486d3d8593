"""Synthetic edits, of which it is known what they changed."""

import numpy as np
import torch
from scipy import ndimage

WIDTH, HEIGHT = 512, 384
KINDS = ["another thing", "another colour", "another texture", "flat"]
"""Of edits."""


def scene(rng, height=HEIGHT, width=WIDTH):
    """`h w 3`: something like a photo, with a 1/f spectrum, flat areas and hard edges."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) + 2e-3
    layers = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * rng.random(frequency.shape))
        layers.append(np.fft.irfft2(phase / frequency**1.2, (height, width)))
    picture = np.stack(layers, -1)
    picture = 0.5 + 0.12 * picture / picture.std()
    for _ in range(6):
        inside = blob(rng, rng.uniform(0.05, 0.2), height, width)
        picture[inside] = 0.8 * rng.random(3) + 0.2 * picture[inside]
    return np.clip(picture, 0, 1).astype(np.float32)


def blob(rng, radius, height=HEIGHT, width=WIDTH):
    """`h w` bool: a wavy disc; `radius` as a share of the height."""
    y, x = np.mgrid[:height, :width]
    y, x = y - height * rng.uniform(0.35, 0.65), x - width * rng.uniform(0.35, 0.65)
    waves = 1 + 0.2 * np.sin(rng.integers(2, 6) * np.arctan2(y, x) + rng.uniform(0, 6))
    return np.hypot(y, x) < radius * height * waves


def through_a_vae(picture, rng, noise=4 / 255):
    """Blur, and noise that is stronger where there is detail, as decoders leave them."""
    blurred = ndimage.gaussian_filter(picture, (0.7, 0.7, 0))
    grain = ndimage.gaussian_filter(rng.standard_normal(picture.shape), (0.6, 0.6, 0))
    detail = ndimage.gaussian_filter(np.abs(picture - ndimage.gaussian_filter(picture, (2, 2, 0))), (2, 2, 0))
    return np.clip(blurred + grain / grain.std() * (noise + 0.5 * detail), 0, 1).astype(np.float32)


def edit(kind, picture, area, rng):
    new = {
        "another thing": lambda: scene(rng, *picture.shape[:2]),
        "another colour": lambda: np.clip(picture[..., [2, 0, 1]] * 0.7 + np.array([0.3, 0.0, 0.1]), 0, 1),
        "another texture": lambda: np.clip(picture.mean((0, 1)) + 0.15 * rng.standard_normal(picture.shape), 0, 1),
        "flat": lambda: np.broadcast_to(np.array([0.9, 0.1, 0.2]), picture.shape),
    }[kind]()
    return np.where(area[..., None], new, picture).astype(np.float32)


def drifted(picture, rng):
    return np.clip(picture + rng.uniform(-8, 8, 3) / 255, 0, 1).astype(np.float32)


def tensor(picture):
    return torch.from_numpy(np.ascontiguousarray(picture, np.float32))[None]


def diptych_of(left, right):
    return torch.cat([tensor(left), tensor(right)], dim=2)
