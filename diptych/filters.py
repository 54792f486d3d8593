"""Image filters of scipy, which every ComfyUI brings."""

from typing import Any


def image_filters() -> Any:
    """scipy.ndimage, loaded at first use; Any, because type checkers infer wrong results from its untyped source."""
    from scipy import ndimage

    return ndimage
