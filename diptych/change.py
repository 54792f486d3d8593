"""Finding the area that an edit changed, by comparing the edited picture with one that went the same way unedited.

The paper does not put edits back onto their source; this is the pack's own. scipy.ndimage does the image work: every
ComfyUI brings scipy, and torch has neither connected components nor distances.
"""

import numpy as np

from .colours import Bools, Floats, commonest_offset, measure_drift
from .filters import image_filters

# Lengths are pixels of a panel, differences are on the scale 0..1.
FINE, COARSE = 1.0, 3.0
"""Blurs under which pictures are compared: fine shows where a change ends, coarse whether it is one."""
FAINTEST, LOUDEST = 10 / 255, 24 / 255
"""Bounds for the difference that counts as change; between them it follows the noise."""
NOISE_FACTOR = 6.0
TEXTURE_FACTOR, TEXTURE_WINDOW = 2.0, 9
"""A difference of this many times the contrast between neighbouring pixels may be a detail drawn anew."""
BORDER = 3
"""Width of a blurred border."""
GAP = 6
"""Unchanged gaps up to twice this width inside a changed area belong to it."""
SMALLEST_SHARE, HOLE_SHARE = 1 / 8000, 1 / 200
"""Of the picture: smaller specks are noise; smaller holes, such as the eyes in a changed face, are filled."""
GROW, FEATHER = 2.0, 6.0


def find_change(edited: Floats, reference: Floats) -> Bools:
    """`h w`: where `edited` shows something else than `reference`, both `h w 3` in 0..1.

    Noise, details that moved by a pixel, and a colour shift of the whole picture do not count.
    """
    ndimage = image_filters()
    edited, reference = (ndimage.gaussian_filter(picture, (FINE, FINE, 0)) for picture in (edited, reference))
    # Where only one of them is textured, that is the change.
    texture: Floats = np.float32(TEXTURE_FACTOR) * np.minimum(_contrast(edited), _contrast(reference))
    area = _differing(commonest_offset(edited, reference).undo(edited) - reference, texture)
    drift = measure_drift(edited, reference, ~area)
    return _differing(drift.undo(edited) - reference, texture)


def feathered(area: Bools, grow: float = GROW, feather: float = FEATHER) -> Floats:
    """`h w` in 0..1: 1 on the area and `grow` pixels around it, then falling smoothly to 0 within `feather` pixels."""
    ndimage = image_filters()
    if not area.any():
        return np.zeros(area.shape, np.float32)
    distance = ndimage.distance_transform_edt(~area)
    fall = np.clip(1.0 - (distance - grow) / feather, 0.0, 1.0).astype(np.float32)
    return fall * fall * (3.0 - 2.0 * fall)


def _contrast(picture: Floats) -> Floats:
    """`h w`: mean difference between neighbouring pixels around each pixel."""
    ndimage = image_filters()
    grey = picture.mean(axis=2)
    steps = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)) / 8
    return ndimage.uniform_filter(steps, TEXTURE_WINDOW)


def _differing(difference: Floats, texture: Floats) -> Bools:
    """Connected areas with a clear difference somewhere, without specks and small gaps.

    `difference` `h w 3` is signed: noise cancels out under the coarse blur, an edit does not.
    """
    ndimage = image_filters()
    fine = np.maximum(np.abs(difference).max(axis=2) - texture, 0.0)
    coarse = np.abs(ndimage.gaussian_filter(difference, (COARSE, COARSE, 0))).max(axis=2) - texture / 2
    # A low quantile, because a high one would measure the edit instead of the noise.
    threshold = float(np.clip(NOISE_FACTOR * np.quantile(fine, 0.4), FAINTEST, LOUDEST))
    # Two textures of one mean colour differ only in the fine.
    clear = (coarse > threshold) | ndimage.binary_opening(fine > 3 * threshold, np.ones((3, 3)))
    extent = _above_half(fine, threshold, BORDER) | _above_half(coarse, threshold, 2 * BORDER)
    return ndimage.binary_dilation(_without_holes(_closed(_components_with(extent, clear))))


def _above_half(difference: Floats, threshold: float, border: int) -> Bools:
    """A blurred border lies where the difference is half of what it gets to nearby."""
    ndimage = image_filters()
    peak = ndimage.maximum_filter(difference, 2 * border + 1)
    return (difference > threshold / 2) & (difference > peak / 2)


def _components_with(extent: Bools, clear: Bools) -> Bools:
    ndimage = image_filters()
    labels, count = ndimage.label(extent, np.ones((3, 3)))
    size = np.bincount(labels.ravel(), minlength=count + 1)
    hits = np.bincount(labels.ravel(), weights=clear.ravel(), minlength=count + 1)
    keep = (size >= max(4.0, SMALLEST_SHARE * extent.size)) & (hits > 0)
    keep[0] = False
    return keep[labels]


def _closed(area: Bools) -> Bools:
    """Morphological closing with a disc."""
    ndimage = image_filters()
    if not area.any():
        return area
    # The frame lets the area grow beyond the picture's border, so that it does not shrink from there.
    framed = np.pad(area, GAP + 1)
    grown = ndimage.distance_transform_edt(~framed) <= GAP
    closed = ndimage.distance_transform_edt(grown) > GAP
    return closed[GAP + 1 : -GAP - 1, GAP + 1 : -GAP - 1] | area


def _without_holes(area: Bools) -> Bools:
    # Not binary_fill_holes: a new background all around a person must not swallow the person.
    ndimage = image_filters()
    labels, _ = ndimage.label(~area)
    small = np.bincount(labels.ravel()) < HOLE_SHARE * area.size
    return area | small[labels]
