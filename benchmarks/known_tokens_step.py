"""Part `step` of known_tokens.py: single model evaluations at FLUX's width, plain and reusing, in CPU time."""

import argparse
import json
import statistics
import sys
import time
from typing import Any

from mini_editbench import SAMPLER, SEED

WIDE_STEPS = 5


def step_costs(host: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of single evaluations, plain and reusing in turn."""
    import comfy.sd
    import torch
    from support.tiny_stack import FluxShape, flux

    shape = FluxShape(hidden=3072, double_blocks=1, single_blocks=2, context=4096, vector=768)
    model = comfy.sd.load_diffusion_model_state_dict(flux(shape), {"dtype": torch.bfloat16})
    (reusing,) = host.call("ReuseKnownTokens", model=model, refresh_every=2, first_steps=1, unchanged="masked")
    found: dict[str, dict[str, Any]] = {}
    for share in options.shares:
        inputs, times = wide_inputs(share), {"plain": [], "recording": [], "short": []}
        for _ in range(options.rounds):
            times["plain"] += evaluation_seconds(host, model, inputs)[1:]
            taken = evaluation_seconds(host, reusing, inputs)
            times["short"] += taken[1::2]
            # The first one of a run is slower, whatever it does.
            times["recording"] += taken[2::2]
        middle = statistics.median(times["plain"])
        found[f"{share:.0%}"] = {
            kind: [round(value / middle, 3) for value in (statistics.median(taken), min(taken), max(taken))]
            for kind, taken in times.items()
        } | {"plain_seconds": round(middle, 2)}
        print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def wide_inputs(share: float) -> dict[str, Any]:
    """KSampler's inputs for 512 x 512 panels, of whose right one this share is open, from its right end."""
    import torch

    mask = torch.zeros(1, 512, 1024)
    mask[:, :, 1024 - 16 * round(32 * share) :] = 1.0
    latent = torch.randn(1, 16, 64, 128)
    extras = {
        "pooled_output": torch.randn(1, 768),
        "guidance": 50.0,
        "concat_latent_image": latent,
        "concat_mask": mask[:, None],
    }
    positive = [[torch.randn(1, 256, 4096), extras]]
    return {"positive": positive, "negative": positive, "latent_image": {"samples": latent, "noise_mask": mask}}


def evaluation_seconds(host: Any, model: Any, inputs: dict[str, Any]) -> list[float]:
    """CPU time of each model call of a short run, which others on the machine disturb less than the clock."""
    from comfy.patcher_extension import WrappersMP

    taken = []

    def timed(executor: Any, *args: Any, **kwargs: Any) -> Any:
        begun = time.process_time()
        output = executor(*args, **kwargs)
        taken.append(time.process_time() - begun)
        return output

    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "timed", timed)
    asked = SAMPLER | {"steps": WIDE_STEPS}
    host.call("KSampler", model=watched, seed=SEED, **asked, **inputs)
    return taken
