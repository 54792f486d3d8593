"""What an inversion took, what it keeps, and how well it leads back to the picture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from .schedule import Schedule
from .values import GIGABYTE, ValueStore


@dataclass(frozen=True)
class InversionResult:
    """How the inversion of one picture went.

    Attributes:
        residual: see solver.Inverted.
        reconstruction_error: root mean square of the difference to the source's latent over that latent's, after
            sampling the source alone from its noise with the kept values; None when this was not tried.
        evaluations: of the model, on the source panel alone, by what they were for.
        seconds: likewise.
    """

    residual: float | None
    reconstruction_error: float | None
    evaluations: dict[str, int]
    seconds: dict[str, float]


def inversion_report(
    schedule: Schedule,
    corrections: int,
    guidance: float,
    results: Sequence[InversionResult],
    stores: Sequence[ValueStore],
) -> str:
    """JSON text about the inversions of all pictures of a batch."""
    plan, nbytes = stores[0].plan, sum(store.nbytes for store in stores)
    return json.dumps(
        {
            "steps": schedule.steps,
            "start_sigma": schedule.start,
            "corrections": corrections,
            "inversion_guidance": guidance,
            "held": {
                "steps": plan.steps,
                "blocks": [f"{kind} {index}" for kind, index in plan.blocks],
                "bytes": nbytes,
                "gigabytes": round(nbytes / GIGABYTE, 3),
                "dtype": str(stores[0].dtype).removeprefix("torch.") if nbytes else None,
                "where": "RAM",
            },
            "pictures": [
                {
                    "reconstruction_error": result.reconstruction_error,
                    "last_correction": result.residual,
                    "evaluations": result.evaluations,
                    "seconds": {name: round(seconds, 3) for name, seconds in result.seconds.items()},
                }
                for result in results
            ],
        },
        indent=1,
    )
