"""With ComfyUI's dynamic memory, its default on NVIDIA cards: the mini models' edits, whole runs, a training."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from ..models import autoencoder, edit, flux_fill, with_lora, with_moe_lora
from ..setting import NotInThisVersionError, Setting
from ..timing import whole_run
from . import mini
from .reuse import NODE, reusing
from .training import step_of_training

EDITS = 48


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    _use_dynamic_memory(setting)
    for part in mini.figures(setting, EDITS):
        yield {f"mini, {name}": found for name, found in part.items()}
    model, vae = flux_fill(setting), autoencoder(setting)
    inputs = edit(setting, vae)
    plain = whole_run(setting, model, inputs)
    yield {"plain": plain}
    for name, adapted in (("lora", with_lora(setting, model)), ("moe_lora", with_moe_lora(setting, model))):
        used = whole_run(setting, adapted, inputs)
        yield {name: used | {"ratio": round(used["step_ms"] / plain["step_ms"], 3)}}
    if setting.has(NODE):
        adapted = with_moe_lora(setting, model)
        yield {
            "moe_lora, reused, 25%": whole_run(setting, adapted, edit(setting, vae, 0.25), partial(reusing, setting))
        }
    yield {"training": step_of_training(setting, model, vae, checkpointing=True)}


def _use_dynamic_memory(setting: Setting) -> None:
    """Switch it on as ComfyUI's main does."""
    if not setting.on_cuda:
        raise NotInThisVersionError("needs a CUDA device")
    import comfy_aimdo.control

    comfy_aimdo.control.init(simple_vram_headroom=None, nvml_pressure=True)
    setting.start()
    import comfy.memory_management
    import comfy.model_patcher
    from comfy.cli_args import args
    from comfy.model_management import get_all_torch_devices

    headroom = int(args.vram_headroom * 2**30)
    if not comfy_aimdo.control.init_devices((device.index, headroom) for device in get_all_torch_devices()):
        raise NotInThisVersionError("comfy-aimdo does not work on this machine")
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True
