"""Tokens that an edit turns out not to touch."""

from torch import Tensor
from torch.nn import functional

TOUCHED = 0.2
"""Difference from the source above which a token is touched, as a share of the source's deviation."""
GLOBAL = 0.8
"""Share of the open tokens from which on an edit is global: the rest is then found by chance."""


class UnchangedTokens:
    """Compares predictions of the picture with its source, both latents `b c h w` as the model sees them.

    `masked`: the tokens that the noise mask keeps, `rows columns`.
    """

    def __init__(self, source: Tensor, masked: Tensor, patch: int) -> None:
        self.source, self._masked, self._patch = source, masked, patch
        self._touched: Tensor | None = None

    def see(self, prediction: Tensor) -> None:
        """The prediction of an evaluation in full."""
        off = (prediction - self.source).float().abs().mean(dim=1, keepdim=True)
        by_token = functional.avg_pool2d(off, self._patch, ceil_mode=True)[:, 0]
        deviation = self.source.float().std(dim=(1, 2, 3))[:, None, None]
        touched = (by_token > TOUCHED * deviation).any(dim=0)
        # What is touched at its edge may be so a token farther, too.
        grown = functional.max_pool2d(touched[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
        self._touched = grown.to(self._masked.device)

    def known(self) -> Tensor:
        """The tokens known by now, `rows columns`: those of the mask alone before anything was seen, and for global
        edits."""
        if self._touched is None:
            return self._masked
        opened = ~self._masked
        share = float((self._touched & opened).sum()) / float(opened.sum())
        # Where nothing is touched yet, nothing can be told either.
        if not 0 < share <= GLOBAL:
            return self._masked
        return self._masked | ~self._touched
