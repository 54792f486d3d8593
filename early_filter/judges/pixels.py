"""A judge without a model: refuses broken edits, ranks the others by how well they keep what should stay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from typing_extensions import override

from ..judge import Candidate, Judge, Poll, Question, Verdict

CELLS = 32
"""Cells along the shorter side: 16 pixels, one token of FLUX, at the trained 512."""

BLUR = 1.0
"""Sigma of the low-pass, in cells. Early previews are blurry. At this scale, on a panel of 512 pixels, a photograph
blurred with a sigma of 4 pixels differs from the sharp one by at most 0.02, with 8 pixels by at most 0.06, and with
pixel noise of 0.03 by 0.001."""

COARSE_BLUR = 4.0
"""Sigma of the coarser low-pass that is subtracted before structures are compared. What is left between the two scales
hardly correlates between different photographs; without it "bright at the top" does, which most of them are."""

GLOBAL_SHIFT = 0.06
"""A colour shift of the whole picture by up to this much comes from the VAE or the preview, and does not count."""

CHANGED = 0.1
"""A cell whose colour differs this much from the source has changed."""

NOTHING = 0.06
"""When no cell differs by more than this, nothing has changed: blur alone can cause so much. A new object of 18 x 18
pixels with a contrast of 0.4, on a panel of 512, differs by more."""

LEFT_LOST = 0.1
"""The left panel is lost when more than this share of it has changed."""

FLAT = 0.15
"""The edit is flat when it has less than this share of the source's contrast."""

UNRELATED = 0.2
"""The edit shows another picture when its structures correlate with the source's by less than this, and when less than
this share of them is kept. In 110 pairs of different photographs the correlation was at most 0.18 and the share at most
0.20. Photographs made grey, sepia, posterized or dark correlate by 0.8 and more with the original; with half of the
picture replaced, nine of eleven pass."""

FEATURELESS = 0.01
"""Below this contrast a picture has no structure to compare."""

ENOUGH_CELLS = 64
"""Fewer cells than this say nothing about structure."""


@dataclass(frozen=True)
class _Look:
    """What was measured on one edit, on the grid of cells."""

    fault: str | None
    drift: float = 0.0
    changed: float = 0.0


class PixelJudge(Judge):
    """Scores edits by colour differences from the source at a coarse scale, in milliseconds.

    With a region, everything outside it should stay as it was. Without one, the changed area counts as the edit and the
    rest should stay. An edit that then changes much more or much less than most others gets a lower score: otherwise
    the one that changes least would always win.

    It does not know the instruction: a wrong edit in the right place passes. Changes of the whole picture (season,
    style, background) are ranked by how little they change, and line drawings and pictures of which only a small part
    stays are refused as unrelated. Changes smaller than about 18 x 18 pixels of 512 do not count.
    """

    @property
    @override
    def name(self) -> str:
        return "pixels"

    @property
    @override
    def reads_instruction(self) -> bool:
        return False

    @override
    def score(self, question: Question, edits: Sequence[Candidate], poll: Poll) -> list[Verdict]:
        looks: list[_Look] = []
        scene = _Scene.of(question)
        for edit in edits:
            poll()
            looks.append(scene.look(edit))
        sound = [look.changed for look in looks if look.fault is None]
        usual = median(sound) if sound and not scene.has_region else None
        return [_verdict(look, usual) for look in looks]


@dataclass(frozen=True)
class _Scene:
    """The source on the grid `3 h w`, and the cells `h w` that may change."""

    source: Tensor
    inside: Tensor
    has_region: bool

    @classmethod
    def of(cls, question: Question) -> "_Scene":
        height, width = question.source.shape[:2]
        scale = CELLS / min(height, width)
        grid = (max(1, round(height * scale)), max(1, round(width * scale)))
        source = _low_pass(_cells(question.source, grid), BLUR)
        if question.region is None:
            return cls(source, torch.ones(grid, dtype=torch.bool), has_region=False)
        # The low-pass spreads a change into the cells beside the region.
        inside = _low_pass(_cells(question.region[..., None], grid), BLUR)[0] > 0.02
        if not bool(inside.any()):
            return cls(source, torch.ones_like(inside), has_region=False)
        return cls(source, inside, has_region=not bool(inside.all()))

    def look(self, edit: Candidate) -> _Look:
        if not bool(torch.isfinite(edit.panel).all()):
            return _Look("the preview holds NaN or infinite values")
        panel = self._on_grid(edit.panel)
        if (fault := self._flat(panel)) or (fault := self._left_lost(edit.left)):
            return _Look(fault)
        shift = self._shift(panel)
        difference = _distance(panel - shift, self.source)
        if (fault := self._nothing_changed(panel, difference)) or (fault := self._unrelated(panel)):
            return _Look(fault)
        changed = difference > CHANGED
        rest = difference[~(self.inside if self.has_region else _spread(changed))]
        drift = float(rest.mean()) if rest.numel() else float(difference.mean())
        return _Look(None, drift, float(changed.float().mean()))

    def _outside(self) -> Tensor:
        """The cells `h w` that should look like the source: all but the region, or all."""
        return ~self.inside if self.has_region else self.inside

    def _on_grid(self, picture: Tensor) -> Tensor:
        return _low_pass(_cells(picture, (self.source.shape[1], self.source.shape[2])), BLUR)

    def _shift(self, panel: Tensor) -> Tensor:
        """The colour shift `3 1 1` that most cells share."""
        shift = (panel - self.source)[:, self._outside()].median(dim=1).values
        return shift.clamp(-GLOBAL_SHIFT, GLOBAL_SHIFT)[:, None, None]

    def _flat(self, panel: Tensor) -> str | None:
        had, has = _contrast(self.source), _contrast(panel)
        if had < FEATURELESS or has >= FLAT * had:
            return None
        return f"the edit is flat: its contrast is {has:.3f}, the source's {had:.3f}"

    def _left_lost(self, left: Tensor | None) -> str | None:
        if left is None:
            return None
        if not bool(torch.isfinite(left).all()):
            return "the left panel holds NaN or infinite values"
        panel = self._on_grid(left)
        lost = float((_distance(panel - self._shift(panel), self.source) > CHANGED).float().mean())
        return f"the left panel is not the source any more: {lost:.0%} of it differs" if lost > LEFT_LOST else None

    def _nothing_changed(self, panel: Tensor, difference: Tensor) -> str | None:
        # The difference before the shift is removed counts too: a shift of all colours may be the wanted edit.
        plain = _distance(panel, self.source)
        most = float(difference[self.inside].max())
        if most >= NOTHING or float(plain[self.inside].median()) >= GLOBAL_SHIFT:
            return None
        where = "in the region" if self.has_region else "on the right"
        return f"nothing has changed {where}: the largest difference is {most:.3f}"

    def _unrelated(self, panel: Tensor) -> str | None:
        cells = self._outside()
        if int(cells.sum()) < ENOUGH_CELLS:
            return None
        source, edit = (_structure(picture)[:, cells] for picture in (self.source, panel))
        if float(source.std()) < FEATURELESS:
            return None
        correlation = float(F.cosine_similarity(source.flatten(), edit.flatten(), dim=0))
        strength = source.abs().amax(dim=0)
        kept = float(strength[_distance(source, edit) < 0.5 * strength].sum() / strength.sum())
        if correlation >= UNRELATED or kept >= UNRELATED:
            return None
        where = "outside the region " if self.has_region else ""
        return f"the edit shows another picture {where}(correlation {correlation:.2f}, {kept:.0%} of the source kept)"


def _verdict(look: _Look, usual: float | None) -> Verdict:
    if look.fault:
        return Verdict(broken=True, reasons=(look.fault,))
    off = abs(look.changed - usual) if usual is not None else 0.0
    reasons = [f"what was to stay differs by {look.drift:.3f}", f"{look.changed:.0%} of the picture has changed"]
    if usual is not None:
        reasons.append(f"most edits change {usual:.0%}")
    return Verdict(score=1.0 - look.drift / CHANGED - off, reasons=tuple(reasons))


def _cells(picture: Tensor, grid: tuple[int, int]) -> Tensor:
    """`h w c` to the means `c h w` of the grid's cells."""
    return F.adaptive_avg_pool2d(picture.detach().float().cpu().permute(2, 0, 1)[None], grid)[0]


def _low_pass(picture: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `c h w`, borders repeated."""
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(len(picture), 1, -1)
    padded = F.pad(picture[None], (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, kernel[:, :, None, :], groups=len(picture))
    return F.conv2d(across, kernel[:, :, :, None], groups=len(picture))[0]


def _structure(picture: Tensor) -> Tensor:
    return picture - _low_pass(picture, COARSE_BLUR)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """`h w`: the largest difference of the three colour channels `3 h w`."""
    return (first - second).abs().amax(dim=0)


def _contrast(picture: Tensor) -> float:
    return float((picture - picture.mean(dim=(1, 2), keepdim=True)).pow(2).mean().sqrt())


def _spread(cells: Tensor) -> Tensor:
    """The cells `h w` and their neighbours, where a change's soft border lies."""
    return F.max_pool2d(cells[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
