"""Step caches: nodes that skip model evaluations by a state which they keep from one step to the next.

The host's own are known by their names. Those of other packs mostly come in as the model's function wrapper, the one
place for them before there were wrappers by key, and forget their state when they see the first step.

Names are all there is to go by. Asking for one evaluation again finds a state out only where it changes that answer:
an EasyCache computes it as before and then decides by the steps before it, a TeaCache may answer right and count twice.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import comfy.samplers
from comfy.patcher_extension import WrappersMP

WRAPPER = "model_function_wrapper"
EASYCACHE = "easycache"
TEACACHE_OPTION = "rel_l1_thresh"
WORDS = ("cache", "wavespeed")
HOST = Path(comfy.samplers.__file__).resolve().parents[1]
HOST_FOLDERS = ("comfy", "comfy_extras")

Options = Mapping[str, Any]


def step_cache(model: Any, options: Options) -> str | None:
    """What keeps its state inside the calls of a model with such model options, with an article; None for nothing.

    The host's LazyCache does not: it answers in place of all calls of a step.
    """
    keys = [
        key for kind in (WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL) for key in model.wrappers.get(kind, {})
    ]
    if EASYCACHE in keys:
        return "an EasyCache"
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
    """Another pack's function wrapper, which may keep a state or not, by name; None for nothing."""
    return None if step_cache(model, options) else _foreign_wrapper(options)


def _foreign_wrapper(options: Options) -> str | None:
    if WRAPPER not in options:
        return None
    name, file = _origin(options[WRAPPER])
    if file is None:
        return name
    if file.is_relative_to(HOST) and file.relative_to(HOST).parts[0] in HOST_FOLDERS:
        return None
    # The folders above may be called anything, ".cache" for example.
    pack = file.parts[file.parts.index("custom_nodes") + 1] if "custom_nodes" in file.parts else file.stem
    return f"{name} of {pack}"


def _origin(function: Callable[..., Any]) -> tuple[str, Path | None]:
    """A callable's name and file; of an object that can be called those of its class."""
    if isinstance(function, partial):
        return _origin(function.func)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return name, Path(code.co_filename).resolve() if code else None
