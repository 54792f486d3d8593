"""Inputs that the nodes which stand in KSampler's place share."""

from comfy_api.latest import io

from ..early_filter.plan import SEEDS
from ..host import sampling

MAX_SEED = SEEDS - 1


def sampler_and_scheduler() -> list[io.Input]:
    return [
        io.Combo.Input(
            "sampler_name",
            options=sampling.sampler_names(),
            default="euler",
            tooltip="KSampler's samplers, except dpm_fast and dpm_adaptive: they choose their own steps.",
        ),
        io.Combo.Input(
            "scheduler", options=sampling.scheduler_names(), default="simple", tooltip="KSampler's schedulers."
        ),
    ]
