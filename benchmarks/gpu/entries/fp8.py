"""The model with its weights in fp8, as UNETLoader's weight_dtype makes them, plain and with the MoE-LoRA."""

from collections.abc import Iterator
from typing import Any

from ..models import autoencoder, edit, flux_fill, with_moe_lora
from ..setting import Setting
from ..timing import whole_run


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    setting.start()
    import comfy.model_management
    import comfy_kitchen
    import torch

    inputs = edit(setting, autoencoder(setting))
    yield {"kitchen": {name: state["available"] for name, state in comfy_kitchen.list_backends().items()}}
    kinds = {"fp8_e4m3fn": {}} | ({"fp8_e4m3fn_fast": {"fp8_optimizations": True}} if setting.on_cuda else {})
    for name, options in kinds.items():
        model = flux_fill(setting, {"dtype": torch.float8_e4m3fn, **options})
        plain = whole_run(setting, model, inputs)
        yield {name: plain}
        moe = whole_run(setting, with_moe_lora(setting, model), inputs)
        yield {f"{name} moe_lora": moe, f"{name} ratio": round(moe["step_ms"] / plain["step_ms"], 3)}
        comfy.model_management.unload_all_models()
        del model
