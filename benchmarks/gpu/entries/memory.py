"""Whole runs on a card of less memory: ComfyUI plans with the limit, and the allocator holds it."""

from collections.abc import Iterator
from typing import Any

from ..models import autoencoder, edit, flux_fill, with_moe_lora
from ..setting import NotInThisVersionError, Setting
from ..timing import whole_run


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    import torch

    if not setting.on_cuda:
        raise NotInThisVersionError("needs a CUDA device")
    limit, total = float(setting.argument), torch.cuda.mem_get_info()[1] / 2**30
    if limit >= total:
        raise NotInThisVersionError(f"this card has {total:.0f} GiB, so {limit:.0f} are no limit")
    # Before it is started: ComfyUI reads it once. Its own default for the system and other programs comes on top.
    setting.host_arguments = ("--reserve-vram", f"{total - limit + 0.6:.2f}")
    torch.cuda.set_per_process_memory_fraction(limit / total)
    model = flux_fill(setting)
    inputs = edit(setting, autoencoder(setting))
    plain = whole_run(setting, model, inputs)
    yield {"limit_gib": limit, "plain": plain}
    moe = whole_run(setting, with_moe_lora(setting, model), inputs)
    yield {"moe_lora": moe, "moe_lora_ratio": round(moe["step_ms"] / plain["step_ms"], 3)}
