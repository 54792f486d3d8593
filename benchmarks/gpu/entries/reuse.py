"""Reuse of known tokens: every evaluation and the whole run, where all of the right panel or a region may change."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from ..models import autoencoder, edit, flux_fill, with_moe_lora
from ..setting import Setting
from ..timing import whole_run

NODE = "ReuseKnownTokens"
SETTINGS = {"refresh_every": 6, "first_steps": 4, "unchanged": "masked"}
SHARES = (1.0, 0.5, 0.25, 0.1)


def reusing(setting: Setting, model: Any) -> Any:
    return setting.host.call(NODE, model=model, **SETTINGS)[0]


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    setting.require(NODE)
    model = with_moe_lora(setting, flux_fill(setting))
    vae = autoencoder(setting)
    plain = whole_run(setting, model, edit(setting, vae))
    yield {"plain": plain, "settings": SETTINGS}
    for share in SHARES:
        used = whole_run(setting, model, edit(setting, vae, share), partial(reusing, setting))
        ratio = {"whole_ratio": round(used["seconds"] / plain["seconds"], 3)}
        ratio["shortest_step_ratio"] = round(min(used["evaluations_ms"]) / plain["step_ms"], 3)
        if setting.on_cuda:
            ratio["store_gb"] = round(used["peak_gb"] - plain["peak_gb"], 2)
        yield {f"{share:.0%} of the panel": used | ratio}
