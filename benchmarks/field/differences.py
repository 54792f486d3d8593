"""Differences between two pictures, as the benchmarks' own evaluations define them, values being 0 to 1."""

import math

import numpy as np
import torch
from PIL import Image

SSIM_WINDOW = 11


def distances(result: Image.Image, truth: Image.Image) -> dict[str, float]:
    """L1 and L2, as MagicBrush takes them: means over all values, the result being resized to the truth's size."""
    difference = _values(result.resize(truth.size)) - _values(truth)
    return {"l1": float(np.abs(difference).mean()), "l2": float((difference**2).mean())}


def outside(source: Image.Image, result: Image.Image, mask: np.ndarray) -> dict[str, float]:
    """PSNR, MSE and SSIM of what was to stay, as PIE-Bench takes them: both pictures are black where the mask is 1, and
    the means are over the whole picture. Nothing where the mask is 1 everywhere.

    Args:
        mask: `h w` of 0 and 1.
    """
    kept = (1 - mask)[:, :, None].astype(np.float32)
    if not kept.any():
        return {}
    # Not at the top: it takes seconds, and one benchmark needs it.
    from kornia.metrics import ssim

    first, second = _values(source) * kept, _values(result) * kept
    mse = float(((first - second) ** 2).mean())
    # Without the border that a window reaches beyond, as torchmetrics did when the benchmark's figures were made.
    pictures = [torch.from_numpy(one).movedim(-1, 0)[None].contiguous() for one in (first, second)]
    similar = ssim(pictures[0], pictures[1], SSIM_WINDOW, padding="valid")
    psnr = 10 * math.log10(1 / mse) if mse else math.inf
    return {"psnr_outside": psnr, "mse_outside": mse, "ssim_outside": float(similar.mean())}


def _values(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
