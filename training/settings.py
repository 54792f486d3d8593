"""What a training does, in numbers: everything here has a part in the result."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from .errors import TrainingError

ADAMW, PRODIGY = "AdamW", "Prodigy"
OPTIMIZERS = (ADAMW, PRODIGY)
CONSTANT, COSINE, LINEAR = "constant", "cosine", "linear"
SCHEDULES = (CONSTANT, COSINE, LINEAR)
MOE, ORDINARY = "MoE", "ordinary"
ADAPTERS = (MOE, ORDINARY)
LEARNED, AS_PUBLISHED = "learned", "as published"
ROUTERS = (LEARNED, AS_PUBLISHED)
LOGIT_NORMAL, UNIFORM = "logit-normal", "uniform"
TIMES = (LOGIT_NORMAL, UNIFORM)

_AT_LEAST_1 = ("steps", "rank", "experts", "top_k", "batch_size", "accumulate")
_AT_LEAST_0 = ("balance", "guidance", "shift")


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of a training.

    Attributes:
        steps: of the optimizer. Each takes `batch_size * accumulate` pairs.
        learning_rate: at its highest. Prodigy finds its own and multiplies it with this, so 1 for it.
        adapter: MOE puts experts on the layers that the paper chose, ORDINARY leaves them out.
        rank: of every LoRA matrix pair and every expert.
        top_k: how many experts work on each token.
        caption_dropout: the share of the pairs that are learned without an instruction.
        right_panel_weight: the share of the loss that is measured on the right panel; 1 leaves the left one out.
        changed_weight: how much more patches count which the edit changes.
        balance: the weight of the term that is smallest when all experts are used equally.
        router: LEARNED passes a gradient to it, AS_PUBLISHED only what the published training could have.
        shift: of the times towards noise, as in the host's ModelSamplingFlux.
        times: how noise levels are drawn before the shift.
        average: the decay of a running mean of the adapter, which is what comes out; 0 for none.

    Raises:
        TrainingError: a value that no training can have.
    """

    steps: int = 1000
    learning_rate: float = 1e-3
    optimizer: str = ADAMW
    schedule: str = COSINE
    rank: int = 32
    experts: int = 4
    top_k: int = 1
    adapter: str = MOE
    batch_size: int = 1
    accumulate: int = 1
    seed: int = 0
    caption_dropout: float = 0.1
    right_panel_weight: float = 1.0
    changed_weight: float = 5.0
    balance: float = 0.01
    router: str = LEARNED
    guidance: float = 50.0
    shift: float = 1.15
    times: str = LOGIT_NORMAL
    average: float = 0.0

    def __post_init__(self) -> None:
        for name in _AT_LEAST_1:
            self._check(name, getattr(self, name) >= 1, "1 or more")
        for name in _AT_LEAST_0:
            value = getattr(self, name)
            self._check(name, math.isfinite(value) and value >= 0, "a finite number, 0 or more")
        self._check("learning_rate", 0 < self.learning_rate < math.inf, "a finite number above 0")
        self._check("changed_weight", 0 < self.changed_weight < math.inf, "a finite number above 0")
        self._check("caption_dropout", 0 <= self.caption_dropout < 1, "0 or more and below 1")
        self._check("average", 0 <= self.average < 1, "0 or more and below 1")
        self._check("right_panel_weight", 0 < self.right_panel_weight <= 1, "above 0 and at most 1")
        choices = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "adapter": ADAPTERS, "router": ROUTERS}
        choices["times"] = TIMES
        for name, known in choices.items():
            self._check(name, getattr(self, name) in known, f"one of {', '.join(known)}")
        self._check("top_k", self.adapter == ORDINARY or self.top_k <= self.experts, f"at most {self.experts} experts")

    def _check(self, name: str, is_right: bool, expected: str) -> None:
        if not is_right:
            raise TrainingError(f"{name} is {getattr(self, name)!r}, expected {expected}.")

    @property
    def routed(self) -> bool:
        return self.adapter == MOE

    @property
    def samples(self) -> int:
        """How many pairs a step of the optimizer takes."""
        return self.batch_size * self.accumulate

    def as_dict(self) -> dict[str, Any]:
        """All settings by name. What an ordinary adapter does not have is left out, so that it makes no difference.

        What older versions did not have is left out where it is as it was: their states are gone on with.
        """
        values = asdict(self)
        for name, before in (("times", LOGIT_NORMAL), ("average", 0.0)):
            if values[name] == before:
                del values[name]
        if not self.routed:
            for name in ("experts", "top_k", "balance", "router"):
                del values[name]
        return values
