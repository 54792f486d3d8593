"""Adapter files for tests, golden vectors, and the plain way to compute them that they are checked against."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import golden

_numbers = itertools.count()

LAYERS = {
    "transformer_blocks.{}.ff.net.2": "double_blocks.{}.img_mlp.2",
    "single_transformer_blocks.{}.proj_out": "single_blocks.{}.linear2",
}


def golden_tensors(name: str = "top1") -> dict[str, Tensor]:
    return load_file(golden.FOLDER / name / "moe_lora.safetensors")


def is_routed(key: str) -> bool:
    return "expert_" in key or "lora_route" in key


def split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The ordinary tensors and the routed ones."""
    parts = ({}, {})
    for key, tensor in tensors.items():
        parts[is_routed(key)][key] = tensor
    return parts


@dataclass(frozen=True)
class Loras:
    """The models/loras folder of the host in this process."""

    host: Any
    folder: Path

    def save(self, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> str:
        """Write a file of its own; its name."""
        name = f"moe_{next(_numbers)}.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, self.folder / name, metadata)
        return name

    def write(self, content: bytes, name: str = "broken.safetensors") -> str:
        """Write a file of any content; its name."""
        (self.folder / name).write_bytes(content)
        return name

    def load(self, model: Any, adapter: str | Mapping[str, Tensor], strength: float = 1.0, **inputs: Any) -> Any:
        """MoELoRALoader's model; its report is checked to be there."""
        name = adapter if isinstance(adapter, str) else self.save(adapter)
        patched, report = self.host.call("MoELoRALoader", model=model, lora_name=name, strength=strength, **inputs)
        assert report.startswith(name)
        return patched

    def report(self, model: Any, adapter: str | Mapping[str, Tensor], strength: float = 1.0, **inputs: Any) -> str:
        name = adapter if isinstance(adapter, str) else self.save(adapter)
        return self.host.call("MoELoRALoader", model=model, lora_name=name, strength=strength, **inputs)[1]

    def plain(self, model: Any, tensors: Mapping[str, Tensor], strength: float = 1.0) -> Any:
        """The host's own LoRA loader."""
        return self.host.call(
            "LoraLoaderModelOnly", model=model, lora_name=self.save(tensors), strength_model=strength
        )[0]


@pytest.fixture(scope="module")
def loras(host: Any, tiny_models: Path) -> Loras:
    """Where tests put adapter files for the host."""
    return Loras(host, tiny_models / "loras")


@pytest.fixture(scope="module")
def vectors() -> golden.Golden:
    """The golden vectors of a model whose tokens go to one expert each."""
    return golden.read("top1")


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """Their adapter's tensors; not to be changed."""
    return golden_tensors("top1")


def merged(patched: Any) -> dict[str, Tensor]:
    """Every weight that the patches of a model change, as the host computes it."""
    import comfy.lora

    weights = patched.model.state_dict()
    return {
        key: comfy.lora.calculate_weight(patches, weights[key].clone(), key) for key, patches in patched.patches.items()
    }


def experts_of(tensors: Mapping[str, Tensor], layer: str) -> tuple[list[Tensor], list[Tensor], Tensor] | None:
    """All A, all B and the router of one layer in float64, from keys of the published form."""
    name = f"transformer.{layer}.lora_"
    if f"{name}route.weight" not in tensors:
        return None
    count = len(tensors[f"{name}route.weight"])
    down, up = ([tensors[f"{name}{part}.expert_{i}.weight"].double() for i in range(count)] for part in "AB")
    return down, up, tensors[f"{name}route.weight"].double()


def routed_part(x: Tensor, down: Iterable[Tensor], up: Iterable[Tensor], router: Tensor, top_k: int) -> Tensor:
    """Token by token and expert by expert, in float64, as the paper writes it."""
    x = x.double()
    result = x.new_zeros(*x.shape[:-1], next(iter(up)).shape[0])
    kept, chosen = (x @ router.to(x.device).T).topk(top_k, dim=-1)
    shares = kept.softmax(-1)
    for expert, (a, b) in enumerate(zip(down, up, strict=True)):
        a, b = a.to(x.device), b.to(x.device)
        share = (shares * (chosen == expert)).sum(-1, keepdim=True)
        result += share * (x @ a.T @ b.T)
    return result


@contextmanager
def plain_experts(model: Any, *parts: tuple[Mapping[str, Tensor], float, int]) -> Iterator[None]:
    """Adds routed parts (tensors, strength, top_k) to the model's Linears with forward hooks, the plain way."""
    with ExitStack() as hooks:
        for (pattern, path), block in itertools.product(LAYERS.items(), range(2)):
            linear = model.model.diffusion_model.get_submodule(path.format(block))
            for tensors, strength, top_k in parts:
                experts = experts_of(tensors, pattern.format(block))
                if experts is None:
                    continue

                def add(_: Any, inputs: Any, output: Tensor, experts=experts, strength=strength, top_k=top_k) -> Tensor:
                    return (output.double() + strength * routed_part(inputs[0], *experts, top_k)).to(output.dtype)

                hooks.enter_context(linear.register_forward_hook(add))
        yield


def untouched(model: Any) -> bool:
    """Nothing of ours is on this patcher or on its model's Linears."""
    linears = (module for module in model.model.diffusion_model.modules() if hasattr(module, "in_features"))
    return not (model.patches or model.additional_models or any(model.wrappers.values())) and all(
        "forward" not in linear.__dict__ for linear in linears
    )
