"""Recognizes step caches: nodes that skip model evaluations, by a state which they keep from one step to the next.

The host's own caches have known names. Those of other packs are mostly the model's function wrapper, which was the only
place for them before there were wrappers with keys, and clear their state when they see the first step.

Only names can tell. Repeating an evaluation shows a state only when the repeated result differs: an EasyCache computes
the same result and only decides differently about later steps; a TeaCache may return the right one and count the step
twice.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import comfy.samplers
from comfy.patcher_extension import WrappersMP

WRAPPER = "model_function_wrapper"
EASYCACHE = "easycache"
HOSTS_CACHE = "an EasyCache"
TEACACHE_OPTION = "rel_l1_thresh"
WORDS = ("cache", "wavespeed")
HOST = Path(comfy.samplers.__file__).resolve().parents[1]
HOST_FOLDERS = ("comfy", "comfy_extras")

Options = dict[str, Any]


def step_cache(model: Any, options: Options) -> str | None:
    """The step cache on a model with these options whose state lies within single calls, with an article; None if none.

    The host's LazyCache is not one of these: it replaces all calls of a step together.
    """
    keys = [
        key for kind in (WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL) for key in model.wrappers.get(kind, {})
    ]
    if EASYCACHE in keys:
        return HOSTS_CACHE
    if TEACACHE_OPTION in options.get("transformer_options", {}):
        return "a TeaCache"
    names = [key for key in keys if isinstance(key, str)]
    if wrapper := _foreign_wrapper(options):
        names.append(wrapper)
    return next((f"a step cache ({name})" for name in names if any(word in name.lower() for word in WORDS)), None)


def has_lazy_cache(model: Any) -> bool:
    """Whether a model carries the host's LazyCache."""
    return bool(model.get_wrappers(WrappersMP.PREDICT_NOISE, "lazycache"))


def unknown_wrapper(model: Any, options: Options) -> str | None:
    """The name of another pack's function wrapper, which may or may not keep a state; None if there is none."""
    return None if step_cache(model, options) else _foreign_wrapper(options)


def _foreign_wrapper(options: Options) -> str | None:
    if WRAPPER not in options:
        return None
    name, file = _origin(options[WRAPPER])
    if file is None:
        return name
    if file.is_relative_to(HOST) and file.relative_to(HOST).parts[0] in HOST_FOLDERS:
        return None
    # Only the pack's own folder counts: those above it may have any name, such as ".cache".
    pack = file.parts[file.parts.index("custom_nodes") + 1] if "custom_nodes" in file.parts else file.stem
    return f"{name} of {pack}"


def _origin(function: Callable[..., Any]) -> tuple[str, Path | None]:
    """A callable's name and file; for a callable object, those of its class."""
    if isinstance(function, partial):
        return _origin(function.func)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return name, Path(code.co_filename).resolve() if code else None
