"""What the model would answer, foretold from its last two answers.

Answers are predictions of the picture (x0). They hardly depend on the noise that a sampler adds on the way, and for a
rectified flow to go on with the same one is exactly a longer step.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Answer:
    """The outputs of an evaluation at a noise level, `b c h w` each."""

    sigma: float
    outputs: tuple[Tensor, ...]


class Forecast:
    """Goes on linearly with the noise level. How far off that is was measured at the last evaluation that was computed,
    over what is open, and grows with the square of the distance."""

    def __init__(self) -> None:
        self._answers: list[Answer] = []
        self._conds: Hashable = None
        self._bend = math.inf
        """Error for each unit of the distances to both answers."""

    def clear(self) -> None:
        self._answers, self._bend = [], math.inf

    def knows(self, conds: Hashable) -> bool:
        """Whether the last answer was to these conditionings."""
        return bool(self._answers) and conds == self._conds

    def expected_error(self, sigma: float, conds: Hashable) -> float:
        """As a share of the answer's deviation; infinite where nothing can be told, such as for other conditionings."""
        if len(self._answers) < 2 or not self.knows(conds) or not self._below(sigma):
            return math.inf
        return self._bend * self._distances(sigma)

    def outputs(self, sigma: float, reach: float = math.inf) -> list[Tensor]:
        """What would be answered, going on for no more than `reach` times what the last two answers are apart; the last
        answer where there is but one."""
        last, before = self._answers[0], self._answers[-1]
        part = 0.0 if before is last else max(-reach, (sigma - last.sigma) / (before.sigma - last.sigma))
        return [torch.lerp(new, old, part) for new, old in zip(last.outputs, before.outputs, strict=True)]

    def computed(self, sigma: float, outputs: Sequence[Tensor], conds: Hashable, opened: Tensor) -> None:
        """Note an answer, after checking what would have been foretold. `opened`: `h w`, where the result is open."""
        if conds != self._conds or (self._answers and not self._below(sigma)):
            # A second evaluation at the same noise level follows from the first one, and replaces it.
            same = conds == self._conds and bool(self._answers) and sigma == self._answers[0].sigma
            self._answers = self._answers[1:] if same else []
            self._bend = self._bend if same else math.inf
        elif len(self._answers) == 2:
            off = max(_error(*pair, opened) for pair in zip(self.outputs(sigma), outputs, strict=True))
            self._bend = off / self._distances(sigma)
        self._conds = conds
        self._answers = [Answer(sigma, tuple(output.clone() for output in outputs)), *self._answers[:1]]

    def _below(self, sigma: float) -> bool:
        return sigma < self._answers[0].sigma * (1 - 1e-4)

    def _distances(self, sigma: float) -> float:
        return math.prod(answer.sigma - sigma for answer in self._answers)


def _error(foretold: Tensor, output: Tensor, opened: Tensor) -> float:
    """Of the picture of the batch where it is largest."""
    deviation = output[..., opened].float().std(dim=(1, 2))
    error = (foretold - output)[..., opened].float().abs().mean(dim=(1, 2))
    # The host gives zeros for a conditioning that it was not asked for.
    return float(torch.where(deviation > 0, error / deviation.clamp(min=1e-12), 0).max())
