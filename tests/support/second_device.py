"""A second device on a machine without one: tensors that say they are on it and refuse to be mixed with the CPU's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)
WITHOUT_CHECK = {
    "__get__",
    "__set__",
    "to",
    "cpu",
    "copy_",
    "size",
    "dim",
    "numel",
    "__len__",
    "__repr__",
    "is_floating_point",
}


class OnDevice(torch.Tensor):
    """Memory of the CPU that counts as the second device's."""

    @property
    def device(self) -> torch.device:
        return DEVICE

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def on_device(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_subclass(OnDevice)


@contextmanager
def second_device() -> Iterator[None]:
    """Within it, `to(device)` and `device=` know the second device, and mixing fails as CUDA would."""
    with _Devices():
        yield


class _Devices(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
        here = {isinstance(tensor, OnDevice) for tensor in tensors if tensor.ndim} or {
            isinstance(tensor, OnDevice) for tensor in tensors
        }
        if name not in WITHOUT_CHECK and len(here) > 1:
            raise RuntimeError(f"Expected all tensors to be on the same device ({name}), but found cuda:0 and cpu!")
        target = "cpu" if name == "cpu" else _target(name, args, kwargs)
        there = here == {True} if target is None else target != "cpu"
        if name == "copy_":
            there = isinstance(args[0], OnDevice)
        plain = tree_map(_plain, (_without_target(name, args) if target else args, kwargs))
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*plain[0], **plain[1])
        return tree_map(on_device, result) if there and _has_tensor(result) else result


def _target(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The kind of device that a call asks for; taken out of its keywords."""
    asked = kwargs.pop("device", None)
    if asked is None and name == "to":
        asked = next((a for a in args[1:] if isinstance(a, (str, torch.device, torch.Tensor))), None)
    if isinstance(asked, torch.Tensor):
        return "cuda" if isinstance(asked, OnDevice) else "cpu"
    return None if asked is None else torch.device(asked).type


def _without_target(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if name != "to":
        return args
    return (args[0], *(a for a in args[1:] if not isinstance(a, (str, torch.device, torch.Tensor))))


def _plain(value: Any) -> Any:
    return value.as_subclass(torch.Tensor) if isinstance(value, OnDevice) else value


def _has_tensor(value: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) for leaf in tree_flatten(value)[0])
