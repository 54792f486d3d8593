"""What bounds an evaluation: how many kernels it starts, how long the device works on them, how long it takes."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from ..models import autoencoder, edit, flux_fill, with_lora, with_moe_lora
from ..setting import NotInThisVersionError, Setting
from ..timing import EvaluationTimes
from .reuse import NODE, reusing

STEPS = 8
LAST = 6
"""The evaluation that is looked at: of those that reuse known tokens, one that computes the others only."""


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    if not setting.on_cuda:
        raise NotInThisVersionError("needs a CUDA device")
    plain, vae = flux_fill(setting), autoencoder(setting)
    whole = edit(setting, vae)
    yield {"plain": _kernels(setting, plain, whole)}
    yield {"lora": _kernels(setting, with_lora(setting, plain), whole)}
    adapted = with_moe_lora(setting, plain)
    yield {"moe_lora": _kernels(setting, adapted, whole)}
    if setting.has(NODE):
        for share in (1.0, 0.25):
            inputs = edit(setting, vae, share)
            yield {f"plain, reused, {share:.0%}": _kernels(setting, plain, inputs, reuse=True)}
            yield {f"moe_lora, reused, {share:.0%}": _kernels(setting, adapted, inputs, reuse=True)}


def _kernels(setting: Setting, model: Any, inputs: dict[str, Any], reuse: bool = False) -> dict[str, Any]:
    """Once timed and once profiled, because profiling takes time itself."""
    times = EvaluationTimes(setting)
    found: dict[str, Any] = {}
    for timed in (times.on(model), _profiled(model, found)):
        used = reusing(setting, timed) if reuse else timed
        setting.host.call("KSampler", model=used, **inputs | {"steps": STEPS})
    return found | {"step_ms": round(times.milliseconds[LAST], 1)}


def _profiled(model: Any, found: dict[str, Any]) -> Any:
    import torch
    from comfy.patcher_extension import WrappersMP
    from torch.profiler import ProfilerActivity, profile

    done = 0

    def evaluate(executor: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal done
        done += 1
        if done != LAST + 1:
            return executor(*args, **kwargs)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            result = executor(*args, **kwargs)
            torch.cuda.synchronize()
        found.update(_told([event for event in profiled.events() or () if event.device_type.name == "CUDA"]))
        return result

    profiled = model.clone()
    profiled.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "kernels", evaluate)
    return profiled


def _told(kernels: Sequence[Any]) -> dict[str, Any]:
    """How many, how long together, and for those that take longest both by name."""
    totals: dict[str, list[float]] = defaultdict(list)
    for kernel in kernels:
        totals[kernel.name[:60]].append(kernel.time_range.elapsed_us() / 1e3)
    most = sorted(totals.items(), key=lambda item: -sum(item[1]))[:12]
    return {
        "kernels": len(kernels),
        "device_ms": round(sum(map(sum, totals.values())), 1),
        "most": {name: [len(each), round(sum(each), 2)] for name, each in most},
    }
