"""How much time and memory the MoE-LoRA takes; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/moe_lora.py [layer] [step] [load] [full]

Things that are compared are measured alternately in one run. `layer`, `step` and `load` run on the CPU (24 GB of
memory, a few minutes). `full` needs a CUDA device with 40 GB and uses it only when it is the only argument; without a
device it is left out.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from in_process import PACK, load_host_and_pack
from routed_variants import VARIANTS, computed_as, random_routed
from side_by_side import compare

SHAPES = PACK / "tests" / "data" / "golden" / "full_size_key_shapes.json"


def layer(rounds: int) -> dict[str, Any]:
    """One layer at full size, 512 tokens: ours and other ways to compute it, against the bare Linear; `part` are
    the same ways without the bare Linear, against ours."""
    import comfy.ops
    import torch
    from icedit.host.moe_lora.experts import RoutedExperts

    result = {}
    for dtype in (torch.float32, torch.bfloat16):
        weights = random_routed(15360, 3072, rank=32, experts=4)
        ours = RoutedExperts([weights], dtype, float32_product=False).layers[0]
        bare = comfy.ops.disable_weight_init.Linear(15360, 3072, dtype=dtype)
        torch.nn.init.normal_(bare.weight, std=15360**-0.5)
        torch.nn.init.zeros_(bare.bias)
        x = torch.randn(1, 512, 15360).to(dtype)
        y = bare(x)
        ways = {"ours": ours} | {name: partial(variant, ours) for name, variant in VARIANTS.items()}
        runs: dict[str, Callable[[], Any]] = {"bare": lambda bare=bare, x=x: bare(x)}
        runs |= {name: lambda way=way, bare=bare, x=x: way(x, bare(x)) for name, way in ways.items()}
        figures = compare(runs, rounds, "bare", lambda: None)
        parts = {name: lambda way=way, x=x, y=y: way(x, y) for name, way in ways.items()}
        figures["part"] = compare(parts, rounds, "ours", lambda: None)
        result[str(dtype).removeprefix("torch.")] = figures
    return result


def step(rounds: int) -> dict[str, Any]:
    """A whole model evaluation of a FLUX.1-Fill with full width but few blocks: 512 picture tokens, a short text."""
    import torch
    from support.tiny_stack import FluxShape, flux, moe_lora

    shape = FluxShape(hidden=3072, double_blocks=1, single_blocks=2, context=4096, vector=768)
    result = {}
    for dtype in (torch.float32, torch.bfloat16):
        with evaluations(flux(shape), moe_lora(shape, rank=32), dtype, (256, 512), text_tokens=32) as (runs, patched):
            runs |= with_variants(patched, runs["with"])
            result[str(dtype).removeprefix("torch.")] = compare(runs, rounds, "without", lambda: None)
    return result


def with_variants(patched: Any, run: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """The evaluation `run` of a patched model with its routed layers computed in each of the other ways."""
    (experts,) = patched.get_nested_additional_models()

    def run_as(variant: Any) -> Any:
        with computed_as(experts.model, variant):
            return run()

    return {name: partial(run_as, variant) for name, variant in VARIANTS.items()}


@contextmanager
def evaluations(
    base: Any, adapter: Any, dtype: Any, size: tuple[int, int], text_tokens: int
) -> Iterator[tuple[dict[str, Callable[[], Any]], Any]]:
    """One evaluation of the host's model with and without the routed part, and the patched model.

    The ordinary LoRA layers are merged into the weights by the host and stay there for both.
    """
    import comfy.model_management
    import comfy.patcher_extension
    import comfy.sd
    import torch
    from icedit.host.moe_lora.apply import Strengths, apply_adapter
    from icedit.host.moe_lora.experts import HeldAdapter
    from icedit.moe_lora.checkpoint import parse_adapter

    model = comfy.sd.load_diffusion_model_state_dict(base, {"dtype": dtype})
    held = HeldAdapter(parse_adapter({key: tensor.to(torch.bfloat16) for key, tensor in adapter.items()}))
    with torch.inference_mode():
        patched = apply_adapter(model, held, Strengths())
        comfy.model_management.load_models_gpu([patched, *patched.get_nested_additional_models()])
        patched.pre_run()
        device, height, width = patched.load_device, size[0] // 8, size[1] // 8
        config = model.model.model_config.unet_config
        inputs = {
            "c_concat": torch.randn(1, 80, height, width, device=device),
            "c_crossattn": torch.randn(1, text_tokens, config["context_in_dim"], device=device),
            "y": torch.randn(1, config["vec_in_dim"], device=device),
            "guidance": torch.tensor([50.0], device=device),
        }
        latent, sigma = torch.randn(1, 16, height, width, device=device), torch.tensor([0.7], device=device)
        wrappers = comfy.patcher_extension.copy_nested_dicts(patched.wrappers)

        def evaluate(options: dict[str, Any]) -> Any:
            return patched.model.apply_model(latent, sigma, transformer_options=options, **inputs)

        yield {"without": lambda: evaluate({}), "with": lambda: evaluate({"wrappers": wrappers})}, patched
        patched.cleanup()
    comfy.model_management.unload_all_models()


def full(rounds: int) -> dict[str, Any]:
    """The 12 B model in bfloat16 at 1024 x 768 on a CUDA device, and the peak memory that the adapter adds."""
    import torch
    from support.tiny_stack import FluxShape

    shape = FluxShape(hidden=3072, double_blocks=19, single_blocks=38, context=4096, vector=768)
    with evaluations(flux_on_gpu(shape), full_size_adapter(), torch.bfloat16, (768, 1024), text_tokens=512) as (
        runs,
        patched,
    ):
        result = compare(runs, rounds, "without", torch.cuda.synchronize)
        peaks = {}
        for name, run in runs.items():
            torch.cuda.reset_peak_memory_stats()
            run()
            peaks[name] = torch.cuda.max_memory_allocated()
        routed = sum(experts.model_size() for experts in patched.get_nested_additional_models())
    added = peaks["with"] - peaks["without"] + routed  # the experts are there in both
    result["peak_added_over_adapter"] = round(added / routed, 3)
    result["device"] = torch.cuda.get_device_name()
    return result


def flux_on_gpu(shape: Any) -> dict[str, Any]:
    """Random bfloat16 weights, drawn on the device because the CPU would take minutes."""
    import torch
    from support.tiny_stack import flux

    with torch.device("meta"):
        shapes = flux(shape)
    return {
        name: torch.randn(meta.shape, dtype=torch.bfloat16, device="cuda").mul_(meta.shape[-1] ** -0.5).cpu()
        for name, meta in shapes.items()
    }


def full_size_adapter() -> dict[str, Any]:
    """Random bfloat16 tensors with the names and shapes of the published file."""
    import torch

    shapes = json.loads(SHAPES.read_text())
    return {key: (torch.randn(shape) * shape[-1] ** -0.5).to(torch.bfloat16) for key, shape in shapes.items()}


def load(rounds: int) -> dict[str, Any]:
    """Reading, checking and stacking the full-size file against reading it into memory with safetensors.

    `bare` maps the file and copies every tensor once. `bytes` reads the file and then makes its tensors. `mapped` only
    maps the file, so nothing is read until a tensor is used.
    """
    import torch
    from icedit.host.moe_lora.experts import RoutedExperts
    from icedit.moe_lora.checkpoint import read_adapter
    from safetensors.torch import load as load_bytes
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "full.safetensors"
        save_file(full_size_adapter(), path)
        runs = {
            "bare": lambda: {key: tensor.clone() for key, tensor in load_file(path).items()},
            "ours": lambda: RoutedExperts(read_adapter(path).routed, torch.bfloat16, float32_product=False),
            "bytes": lambda: load_bytes(path.read_bytes()),
            "mapped": lambda: load_file(path),
        }
        result = compare(runs, rounds, "bare", lambda: None)
        result["file_mb"] = round(path.stat().st_size / 1e6)
    return result


ROUNDS = {"layer": 15, "step": 5, "load": 7, "full": 20}


def main() -> None:
    import importlib

    torch = importlib.import_module("torch")
    cuda = torch.cuda.is_available()
    wanted = sys.argv[1:] or list(ROUNDS)
    load_host_and_pack(cuda and wanted == ["full"])
    figures: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    with torch.inference_mode():
        for name in wanted:
            if name == "full" and not cuda:
                figures[name] = "no CUDA device"
                continue
            figures[name] = globals()[name](ROUNDS[name])
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
