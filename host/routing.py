"""Watching the routed layers of a MoE-LoRA: what the adapter's wrapper tells an observer of a model call."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

MOE_LORA_KEY = "icedit_moe_lora"
"""What the names of all adapters' experts and wrappers on a model begin with."""

OBSERVER_KEY = "icedit_routing_observer"
"""Where in `transformer_options` an observer lies. Without one the routed layers run as if there were none."""

Observe = Callable[[Tensor, Tensor], None]
"""Called with a layer's hidden vectors `... (experts rank)` and the routing weights `... experts` of its tokens."""

TRANSFORMER_OPTIONS = 5
"""Its place among the arguments of the host's `apply_model`."""
PATCH = 2
"""FLUX.1 makes one token of a square of this many latent pixels."""


@dataclass(frozen=True)
class ModelCall:
    """One call of the diffusion model.

    Attributes:
        sigma: of the noise.
        height, width: of the picture in tokens.
        words: tokens of the sentence, which come before the picture's in single blocks.
        positive: which rows of the batch belong to the positive conditioning.
    """

    sigma: float
    height: int
    width: int
    words: int
    positive: tuple[int, ...]

    @classmethod
    def of(
        cls, x: Tensor, sigma: Tensor, _concat: Any, context: Tensor, _control: Any, options: Mapping
    ) -> "ModelCall":
        """From the arguments of `apply_model`."""
        conditions: Sequence[int] = options.get("cond_or_uncond") or [0]
        rows = len(x) // len(conditions)
        positive = [index * rows + row for index, kind in enumerate(conditions) if kind == 0 for row in range(rows)]
        height, width = (-(-side // PATCH) for side in x.shape[-2:])
        return cls(float(sigma.flatten()[0]), height, width, context.shape[1], tuple(positive))


class RoutingObserver(Protocol):
    """What may lie in `transformer_options` under `OBSERVER_KEY`. It must have no attribute `to`: the host calls it."""

    @property
    def kept(self) -> dict[Any, dict[str, Any]]:
        """Where adapters keep what they made for this observer: a compiler would compile new functions at each step."""
        ...

    def begin(self, call: ModelCall) -> None:
        """The diffusion model is called now; several adapters on a model all say so."""
        ...

    def watch(self, adapter: str, experts: Any, path: str, top_k: int) -> Observe:
        """What to call when the layer at `path` of this adapter routes its tokens.

        Args:
            adapter: the name of its experts on the model.
            experts: all its routed layers.
            path: the layer in the host's diffusion model.
            top_k: experts that work on each token.
        """
        ...


def observer_of(arguments: Sequence[Any]) -> RoutingObserver | None:
    """The observer that the arguments of `apply_model` carry."""
    options = arguments[TRANSFORMER_OPTIONS] if len(arguments) > TRANSFORMER_OPTIONS else None
    return (options or {}).get(OBSERVER_KEY)
