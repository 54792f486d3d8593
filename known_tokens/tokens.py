"""Which of a picture's tokens are known: the sampler puts the source back there, whatever the model says."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class TokenSplit:
    """The tokens of one model call, apart by whether their result is known: positions among its picture tokens, in
    order, both `n`."""

    known: Tensor
    open: Tensor

    def __post_init__(self) -> None:
        both = torch.cat((self.known, self.open)).sort().values
        if not torch.equal(both, torch.arange(len(both), device=both.device)):
            raise ValueError("Each token must be either known or open.")

    @property
    def total(self) -> int:
        return len(self.known) + len(self.open)

    @classmethod
    def of(cls, known: Tensor, extra: int = 0) -> "TokenSplit":
        """From a mask `rows columns`, with `extra` tokens behind the picture's that are known as well."""
        flat = functional.pad(known.flatten(), (0, extra), value=True)
        return cls(flat.nonzero().flatten(), (~flat).nonzero().flatten())


def known_tokens(mask: Tensor, patch: int) -> Tensor:
    """Tokens that a noise mask fixes: `rows columns`, for all rows of the batch alike.

    The mask `b c h w` is 1 where the sampler paints. A token that is open in one picture of the batch is computed in
    all of them: rows of one batch must have the same number of tokens, and padding would need an attention mask, which
    switches fast attention off. Partly open is open.
    """
    padding = [size for side in (mask.shape[-1], mask.shape[-2]) for size in (0, -side % patch)]
    # As the host pads latents whose sides do not divide into patches.
    whole = functional.pad(mask, padding, mode="circular") if any(padding) else mask
    opened = functional.max_pool2d(whole.abs().amax(dim=(0, 1))[None], patch)[0]
    return opened == 0


def pixels(tokens: Tensor, patch: int, size: Sequence[int]) -> Tensor:
    """A mask of tokens `rows columns` over the latent's pixels `h w`."""
    height, width = size
    return tokens.repeat_interleave(patch, 0).repeat_interleave(patch, 1)[:height, :width]
