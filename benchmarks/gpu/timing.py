"""How long whole runs and single evaluations take, and how much of the device's memory."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from .setting import Setting


class EvaluationTimes:
    """Milliseconds of each evaluation of a model."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.milliseconds: list[float] = []

    def on(self, model: Any) -> Any:
        """A clone that is timed. What is put on it afterwards, for example by a node, is timed with it."""
        from comfy.patcher_extension import WrappersMP

        timed = model.clone()
        timed.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "evaluation_times", self._evaluate)
        return timed

    def _evaluate(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        self._setting.wait()
        begun = time.perf_counter()
        result = executor(*args, **kwargs)
        self._setting.wait()
        self.milliseconds.append(1e3 * (time.perf_counter() - begun))
        return result


def whole_run(setting: Setting, model: Any, inputs: dict[str, Any], prepare: Any = None) -> dict[str, Any]:
    """Seconds of a KSampler run, milliseconds of its evaluations, and the most memory that it took.

    Args:
        prepare: a function that makes another model of this one, for example a node's.
    """
    import torch

    times = EvaluationTimes(setting)
    timed = times.on(model)
    timed = prepare(timed) if prepare else timed
    # Loads the model, and lets the device choose its kernels.
    setting.host.call("KSampler", model=timed, **inputs | {"steps": 2})
    times.milliseconds.clear()
    used, (latent,) = measured(setting, lambda: setting.host.call("KSampler", model=timed, **inputs))
    if not bool(torch.isfinite(latent["samples"]).all()):
        raise ValueError("The model gave numbers that are not finite, so its times are worth nothing.")
    each = times.milliseconds
    return used | {"step_ms": round(statistics.median(each), 2), "evaluations_ms": [round(one, 1) for one in each]}


def measured(setting: Setting, run: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Seconds of a function and the most memory that tensors took on the device meanwhile, and what it returned."""
    import torch

    setting.wait()
    if setting.on_cuda:
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    result = run()
    setting.wait()
    used: dict[str, Any] = {"seconds": round(time.perf_counter() - begun, 3)}
    if setting.on_cuda:
        used["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return used, result
