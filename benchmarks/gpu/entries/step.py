"""Whole runs of the plain model, with the ordinary LoRA, with the MoE-LoRA; its routed layers in every way."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from routed_variants import VARIANTS, computed_as
from side_by_side import compare

from ..models import autoencoder, edit, flux_fill, with_lora, with_moe_lora
from ..setting import Setting
from ..timing import whole_run


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    model = flux_fill(setting)
    inputs = edit(setting, autoencoder(setting))
    plain = whole_run(setting, model, inputs)
    yield {"plain": plain}
    yield {"lora": whole_run(setting, with_lora(setting, model), inputs)}
    adapted = with_moe_lora(setting, model)
    moe = whole_run(setting, adapted, inputs)
    yield {"moe_lora": moe, "moe_lora_ratio": round(moe["step_ms"] / plain["step_ms"], 3)}
    yield from _variants(setting, adapted, inputs)


def _variants(setting: Setting, adapted: Any, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Alternately, so that a clock that changes meets all of them: short runs with the routed layers computed in one
    way or another, and left out."""
    (experts,) = adapted.get_nested_additional_models()

    def run() -> None:
        setting.host.call("KSampler", model=adapted, **inputs | {"steps": 4})

    def run_as(variant: Any) -> None:
        with computed_as(experts.model, variant):
            run()

    runs = {"without": partial(run_as, _bare), "ours": run}
    runs |= {name: partial(run_as, variant) for name, variant in VARIANTS.items()}
    yield {"four_steps": compare(runs, setting.size.rounds, "without", setting.wait)}


def _bare(_layer: Any, _x: Any, base: Any, *_: Any) -> Any:
    return base
