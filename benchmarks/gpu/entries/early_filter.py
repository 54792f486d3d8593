"""The early filter of six candidates against one plain edit and against six of them; decoding and judging included."""

import json
from collections.abc import Iterator
from typing import Any

from ..models import autoencoder, edit, flux_fill, with_moe_lora
from ..setting import Setting
from ..timing import measured
from .reuse import NODE, reusing

FILTER = {"instruction": "", "candidates": 6, "keep": 2, "mode": "resume", "panel": "right half"}

REPORTED = ("evaluations", "seconds", "exact")


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    model, vae = with_moe_lora(setting, flux_fill(setting)), autoencoder(setting)
    inputs, host = edit(setting, vae), setting.host

    def plain(seed: int) -> None:
        (latent,) = host.call("KSampler", model=model, **inputs | {"seed": seed})
        host.call("VAEDecode", samples=latent, vae=vae)

    def filtered(model: Any) -> dict[str, Any]:
        asked = FILTER | {"probe_steps": max(1, setting.size.steps // 7), "vae": vae}
        latent, _, _, report = host.call("EarlyFilterSampler", model=model, **asked, **inputs)
        host.call("VAEDecode", samples=latent, vae=vae)
        return {name: value for name, value in json.loads(report).items() if name in REPORTED}

    plain(0)  # loads and warms up
    one, _ = measured(setting, lambda: plain(1))
    yield {"plain": one}
    models = {"filter": model} | ({"filter_with_reuse": reusing(setting, model)} if setting.has(NODE) else {})
    for name, filtering in models.items():
        used, report = measured(setting, lambda model=filtering: filtered(model))
        yield {name: used | {"ratio": round(used["seconds"] / one["seconds"], 3), "report": report}}
    six, _ = measured(setting, lambda: [plain(seed) for seed in range(1, 7)])
    yield {"six": six | {"ratio": round(six["seconds"] / one["seconds"], 3)}}
