"""Finding the area that an edit changed, by comparing it with the unedited picture that went through the same VAE.

The paper does not put edits back onto their source; this is the pack's own.
"""

import torch
from torch import Tensor

from .colours import Drift, commonest_offset, measure_drift
from .filters import blur, bordered, components, distance, doubled, halved, highest, mean

# Lengths are pixels of a panel, differences are on the scale 0..1.
FINE, COARSE = 1.0, 3.0
"""Blurs under which pictures are compared: fine shows where a change ends, coarse whether it is one."""
FAINTEST, LOUDEST = 10 / 255, 24 / 255
"""Bounds for the difference that counts as change; between them it follows the noise."""
NOISE_FACTOR = 6.0
TEXTURE_FACTOR, TEXTURE_WINDOW = 2.0, 5
"""A difference of up to this many times the contrast between neighbouring pixels may be a detail drawn anew; the
window is in pixels of half the size."""
BORDER = 3
"""Width of a blurred border."""
GAP = 6
"""Unchanged gaps up to twice this width inside a changed area belong to it."""
SMALLEST_SHARE, HOLE_SHARE = 1 / 8000, 1 / 200
"""Of the picture: smaller specks are noise; smaller holes, such as the eyes in a changed face, are filled."""


def find_change(edited: Tensor, reference: Tensor, threshold: float = 0.0) -> Tensor:
    """`h w` bool: where `edited` shows something else than `reference`, both `h w 3` in 0..1, a panel's size.

    Noise, details that moved by a pixel, and a colour shift of the whole picture do not count.

    Args:
        threshold: the difference that counts; 0 follows the noise.
    """
    fine = blur(torch.cat([edited, reference], 2).permute(2, 0, 1).contiguous(), FINE)
    coarse = _coarse(fine)
    # Where only one of them is textured, that is the change.
    texture = TEXTURE_FACTOR * torch.minimum(_contrast(fine[:3]), _contrast(fine[3:]))
    drift = commonest_offset(coarse[:3], coarse[3:])
    for _ in range(2):
        # What is left of a wrong guess at the drift looks like change, so the second guess sees more of the picture.
        unchanged = ~highest(_difference(coarse, drift) - texture / 2 > FAINTEST, BORDER)
        drift = measure_drift(coarse[:3], coarse[3:], unchanged)
    texture = doubled(texture, fine.shape[1:])
    return _differing(
        (_difference(fine, drift) - texture).clamp_(min=0.0),
        doubled(_difference(coarse, drift), fine.shape[1:]) - texture / 2,
        threshold,
    )


def drift_between(edited: Tensor, original: Tensor, unchanged: Tensor) -> Drift:
    """The colour shift from `original` to `edited`, `h w 3`, by what did not change `h w`."""
    pictures = _coarse(torch.cat([edited, original], 2).permute(2, 0, 1))
    return measure_drift(pictures[:3], pictures[3:], unchanged[::2, ::2])


def _coarse(planes: Tensor) -> Tensor:
    """Under the coarse blur, at half the size: the blur leaves nothing finer."""
    return blur(halved(planes), COARSE / 2)


def _contrast(planes: Tensor) -> Tensor:
    """At half the size: mean difference between neighbouring pixels around each pixel of `3 h w`."""
    grey = torch.nn.functional.pad(planes.mean(0)[None], (1, 1, 1, 1), mode="replicate")[0]
    # Sobel's operator.
    rows, columns = grey[2:] - grey[:-2], grey[:, 2:] - grey[:, :-2]
    across = rows[:, :-2] + 2.0 * rows[:, 1:-1] + rows[:, 2:]
    along = columns[:-2] + 2.0 * columns[1:-1] + columns[2:]
    return mean(halved(across.square_().add_(along.square_()).sqrt_()), TEXTURE_WINDOW) / 8.0


def _difference(pictures: Tensor, drift: Drift) -> Tensor:
    """`h w`: the largest of the channels between the edited picture and the reference, `6 h w` together.

    It is signed until blurred: noise cancels out under the coarse blur, an edit does not.
    """
    return (drift.undo_planes(pictures[:3]) - pictures[3:]).abs_().amax(0)


def _differing(fine: Tensor, coarse: Tensor, threshold: float) -> Tensor:
    """`h w` bool: connected areas with a clear difference somewhere, without specks and small gaps."""
    sample = fine[::2, ::2].flatten()
    # A low quantile, because a high one would measure the edit instead of the noise.
    noise = float(sample.kthvalue(max(1, round(0.4 * sample.numel()))).values)
    threshold = threshold or min(max(NOISE_FACTOR * noise, FAINTEST), LOUDEST)
    # Two textures of one mean colour differ only under the fine blur.
    clear = (coarse > threshold) | highest(~highest(fine <= 3 * threshold, 3), 3)
    extent = _above_half(fine, threshold, BORDER) | _above_half(coarse, threshold, 2 * BORDER)
    return bordered(_without_holes(_closed(_components_with(extent, clear))))


def _above_half(difference: Tensor, threshold: float, border: int) -> Tensor:
    """Where the difference is above half of its highest value nearby, which is where a blurred border lies."""
    peak = highest(difference, 2 * border + 1)
    return (difference > threshold / 2) & (difference > peak / 2)


def _components_with(extent: Tensor, clear: Tensor) -> Tensor:
    labels, count = components(extent)
    size = torch.bincount(labels.flatten(), minlength=count + 1)
    hits = torch.bincount(labels[clear.cpu()], minlength=count + 1)
    keep = (size >= max(4.0, SMALLEST_SHARE * extent.numel())) & (hits > 0)
    keep[0] = False
    return keep[labels].to(extent.device)


def _closed(area: Tensor) -> Tensor:
    """Morphological closing with a disc."""
    # The frame lets the area grow beyond the picture's border, so that it does not shrink from there.
    framed = torch.nn.functional.pad(area, (GAP + 1,) * 4)
    closed = distance(distance(framed, GAP) > GAP, GAP) > GAP
    return closed[GAP + 1 : -GAP - 1, GAP + 1 : -GAP - 1] | area


def _without_holes(area: Tensor) -> Tensor:
    # Not every hole: a new background all around a person must not swallow the person.
    labels, count = components(~area, diagonal=False)
    small = torch.bincount(labels.flatten(), minlength=count + 1) < HOLE_SHARE * area.numel()
    return area | small[labels].to(area.device)
