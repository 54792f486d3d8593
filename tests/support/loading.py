"""The host's memory management as on a small GPU, in a process that has none."""

from collections.abc import Callable
from typing import Any

FREE = 200_000
"""Bytes of free memory: some of the tiny model's weights fit, others stay offloaded."""


def run_out_of_memory(monkeypatch: Any) -> Callable[[], None]:
    """What a large judge does to a small GPU: everything is unloaded, and from now on models are loaded partly.

    The host refuses --lowvram beside --cpu, so it is switched on from here, and the memory that it would find is put
    in its place; how it then loads is its own doing.
    """
    import comfy.model_management as management

    load = management.load_models_gpu

    def load_as_on_a_small_gpu(*args: Any, **kwargs: Any) -> None:
        with monkeypatch.context() as small:
            small.setattr(management, "vram_state", management.VRAMState.LOW_VRAM)
            small.setattr(management, "is_device_cpu", lambda _: False)
            small.setattr(management, "get_free_memory", lambda *_, **__: FREE)
            load(*args, **kwargs)

    def run_out() -> None:
        management.unload_all_models()
        monkeypatch.setattr(management, "load_models_gpu", load_as_on_a_small_gpu)

    return run_out
