"""The model compiled by ComfyUI's TorchCompileModel, plain and with the MoE-LoRA; compiling takes minutes."""

from collections.abc import Iterator
from typing import Any

from ..models import autoencoder, edit, flux_fill, with_moe_lora
from ..setting import Setting
from ..timing import measured, whole_run


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    import torch

    model = flux_fill(setting)
    inputs = edit(setting, autoencoder(setting))
    backend = "inductor" if setting.on_cuda else "eager"
    for name, one in (("plain", model), ("moe_lora", with_moe_lora(setting, model))):
        eager = whole_run(setting, one, inputs)
        yield {f"{name} not compiled": eager}
        compiled = setting.host.call("TorchCompileModel", model=one, backend=backend)[0]
        torch._dynamo.reset()
        first, _ = measured(
            setting, lambda model=compiled: setting.host.call("KSampler", model=model, **inputs | {"steps": 1})
        )
        yield {f"{name} first evaluation": first}
        later = whole_run(setting, compiled, inputs)
        yield {f"{name} compiled": later, f"{name} ratio": round(later["step_ms"] / eager["step_ms"], 3)}
