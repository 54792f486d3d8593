"""Finds candidates whose previews look the same, so that they are judged once."""

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .judge import Candidate

CELLS = 32
"""Pictures are compared as 32 x 32 averages, which remove noise but not a changed small object."""

NEAR = 0.01
"""Two pictures look the same when no cell differs by more than this in any colour (2.5 of 255)."""


def duplicates(edits: Sequence[Candidate]) -> dict[int, int]:
    """Seeds of edits that look like an earlier one, with the earlier one's seed."""
    distinct: list[tuple[int, Tensor]] = []
    found: dict[int, int] = {}
    for edit in edits:
        cells = F.adaptive_avg_pool2d(edit.panel.movedim(-1, 0)[None].float(), CELLS)
        # A comparison with NaN is false, so a picture that holds NaN never looks like another one.
        twin = next((seed for seed, other in distinct if float((cells - other).abs().amax()) <= NEAR), None)
        if twin is None:
            distinct.append((edit.seed, cells))
        else:
            found[edit.seed] = twin
    return found
