"""Decoding the panels of a sampled diptych, each without the colours of the other one.

Models learn diptychs that were encoded as one picture, so near the seam the latent of either panel holds something of
the other one. Decoded together it shows wherever the model did not repeat what the encoder would have made of the same
two panels, and decoding a panel alone leaves it in. What the neighbour adds is what the encoder makes of a panel's edge
beside it, less what it makes of the edge alone: this is taken off before the panel is decoded alone. The pack's own;
the paper decodes the diptych.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..diptych.geometry import DiptychLayout, Size
from ..diptych.panels import check_diptych, left_panels

GREY = 0.5


@dataclass(frozen=True)
class EdgeCorrection:
    """How a panel's edge is freed of its neighbour's colours.

    Attributes:
        columns: latent columns that are corrected, less and less from their middle on.
        rounds: how often they are decoded to see what the neighbour adds to them.
    """

    columns: int
    rounds: int


EXACT = EdgeCorrection(16, 2)
"""128 pixels of FLUX's VAE, whose convolutions hardly see farther; a third round changes nothing that shows."""
QUICK = EdgeCorrection(4, 1)
"""For previews: what shows most, in little more time than decoding the panel alone takes."""


@dataclass(frozen=True)
class DiptychLatent:
    """The latent `d c h (2 w)` of diptychs and the VAE it belongs to.

    `known`: the left panels `d h w 3` in pixels, where they are at hand; otherwise they are decoded. `correction`: of a
    panel's edge that is decoded.
    """

    samples: Tensor
    vae: Any
    known: Tensor | None = None
    correction: EdgeCorrection = EXACT

    @property
    def half(self) -> int:
        """Latent columns of a panel."""
        return self.samples.shape[-1] // 2

    @property
    def edge(self) -> int:
        """Latent columns of a panel's edge at the seam."""
        return min(self.correction.columns, self.half)

    def decode(self, latent: Tensor) -> Tensor:
        """Pictures `d h w 3` in 0..1."""
        pictures = self.vae.decode(latent)
        return pictures.reshape(-1, *pictures.shape[-3:])[..., :3]

    def encode(self, pictures: Tensor) -> Tensor:
        """The latent of pictures, where the samples are."""
        return self.vae.encode(pictures).to(self.samples)


def diptych_latent(
    latent: dict[str, Any], vae: Any, layout: DiptychLayout | None = None, original: Tensor | None = None
) -> DiptychLatent:
    """The diptychs of a LATENT; with their layout and the original pictures `b h w 3` their left panels are known.

    Raises:
        ValueError: no VAE, no latent of pictures with two halves, or a layout or original of others.
    """
    if vae is None:
        raise ValueError("vae is empty: the loader before it brought no VAE. Load ae.safetensors with VAELoader.")
    samples = latent["samples"]
    nested = getattr(samples, "is_nested", False)
    if not nested and samples.ndim == 5 and samples.shape[2] == 1:
        samples = samples[:, :, 0]
    if nested or samples.ndim != 4 or samples.shape[-1] % 2 or not samples.numel():
        raise ValueError(
            "samples is no diptych: expected the latent of pictures with an even width, [batch, channels, height, "
            f"width], not {'several latents' if nested else list(samples.shape)}. Connect the LATENT of the sampler."
        )
    if layout is None:
        return DiptychLatent(samples, vae)
    ratio = vae.spacial_compression_decode()
    panel = Size(samples.shape[-1] // 2 * ratio, samples.shape[-2] * ratio)
    check_diptych(Size(2 * panel.width, panel.height), layout)
    known = None if original is None else left_panels(layout, original, len(samples), panel)
    return DiptychLatent(samples, vae, known)


def can_decode_right(samples: Tensor, vae: Any) -> bool:
    """Whether `decode_right` is for such a latent, which has a middle column, and such a VAE, which makes a latent of
    the same size of what it decodes. Those of videos take a batch for frames."""
    if samples.ndim != 4 or samples.shape[-1] % 2 or getattr(vae, "latent_dim", None) != 2:
        return False
    return vae.spacial_compression_encode() == vae.spacial_compression_decode()


def decode_right(diptych: DiptychLatent) -> Tensor:
    """The right panels `d h w 3` in 0..1."""
    right = diptych.samples[..., diptych.half :]
    left = _left_edge(diptych)

    def beside(picture: Tensor) -> Tensor:
        return diptych.encode(torch.cat([left.to(picture), picture], 2))[..., diptych.edge :]

    own = _without_neighbour(diptych, right[..., : diptych.edge], beside, _fade(diptych.edge))
    return diptych.decode(torch.cat([own, right[..., diptych.edge :]], -1))


def decode_left(diptych: DiptychLatent, right: Tensor) -> Tensor:
    """The left panels `d h w 3` in 0..1, given the right ones.

    A sampler that keeps the left panel keeps it as it was encoded: beside a copy of itself or beside grey.
    """
    left = diptych.samples[..., : diptych.half]
    edge = left[..., -diptych.edge :]
    seen = _left_edge(diptych)
    pixels = seen.shape[2]
    copy = diptych.decode(left[..., : diptych.edge]) if diptych.known is None else diptych.known[:, :, :pixels]
    neighbours = [right[:, :, :pixels], copy, torch.full_like(seen, GREY)]
    misses = []
    for neighbour in neighbours:
        encoded = diptych.encode(torch.cat([seen, neighbour.to(seen)], 2))[..., diptych.edge - 1]
        misses.append((encoded - edge[..., -1]).abs().mean((1, 2)))
    nearest = torch.stack(misses).argmin(0)
    neighbour = torch.stack([neighbours[which][i].to(seen) for i, which in enumerate(nearest.tolist())])

    def beside(picture: Tensor) -> Tensor:
        return diptych.encode(torch.cat([picture, neighbour.to(picture)], 2))[..., : diptych.edge]

    own = _without_neighbour(
        diptych, edge, beside, _fade(diptych.edge).flip(0), None if diptych.known is None else seen
    )
    return diptych.decode(torch.cat([left[..., : -diptych.edge], own], -1))


def _left_edge(diptych: DiptychLatent) -> Tensor:
    """The last columns of the left panel in pixels."""
    if diptych.known is not None:
        return diptych.known[:, :, -diptych.known.shape[2] * diptych.edge // diptych.half :]
    # Beside the right panel: alone, its last columns come out worse.
    start = diptych.half - diptych.edge
    seam = diptych.decode(diptych.samples[..., start : start + 2 * diptych.edge])
    return seam[:, :, : seam.shape[2] // 2]


def _without_neighbour(
    diptych: DiptychLatent,
    edge: Tensor,
    beside: Callable[[Tensor], Tensor],
    fade: Tensor,
    known: Tensor | None = None,
) -> Tensor:
    """The latent of a panel's edge as if the panel had been encoded alone.

    Args:
        beside: what the encoder makes of the edge's picture beside its neighbour.
        known: the edge's picture; None decodes it.
    """
    own = edge
    for _ in range(diptych.correction.rounds if known is None else 1):
        picture = diptych.decode(own) if known is None else known
        own = edge + (diptych.encode(picture) - beside(picture)) * fade.to(edge)
    return own


def _fade(columns: int) -> Tensor:
    """Weights of an edge's columns, from the seam inwards: 1 up to the middle, falling to 0 at the end."""
    at = torch.arange(columns) + 0.5
    return (2.0 - 2.0 * at / columns).clamp(0.0, 1.0)
