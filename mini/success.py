"""Measures whether an edit succeeded, by the scene that must come out."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import max_pool2d

from .edits import SceneEdit
from .render import render

VISIBLE = 0.1
"""A pixel differs visibly when a colour channel in 0..1 differs by more than this."""
WRONG = 0.25
MARGIN = 4
"""Pixels around the change that are not counted, because the autoencoder blurs edges."""
DONE_SHARE = 0.85
WRONG_SHARE = 0.02


@dataclass(frozen=True)
class EditCheck:
    """`done`: share of the pixels to be changed that are nearer to the wanted picture than to the source.
    `wrong`: share of the other pixels that are off by more than `WRONG`."""

    done: float
    wrong: float

    @property
    def edited(self) -> bool:
        return self.done >= DONE_SHARE

    @property
    def kept(self) -> bool:
        return self.wrong <= WRONG_SHARE

    @property
    def success(self) -> bool:
        return self.edited and self.kept


def verdict(edit: SceneEdit, result: Tensor) -> EditCheck:
    """Judge a result `3 128 128`, 0..1."""
    before, after = render(edit.before), render(edit.after)
    changed = (after - before).abs().amax(0) > VISIBLE
    nearby = max_pool2d(changed[None].float(), 2 * MARGIN + 1, 1, MARGIN)[0] > 0
    nearer = (result - after).abs().sum(0) < (result - before).abs().sum(0)
    wrong = (result - after).abs().amax(0) > WRONG
    others = (~nearby).sum().clamp(min=1)
    return EditCheck(nearer[changed].float().mean().item(), ((wrong & ~nearby).sum() / others).item())
