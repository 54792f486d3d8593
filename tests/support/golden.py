"""Golden vectors made with the paper's own layers: a tiny FLUX.1-Fill, an adapter, and what they must compute."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).resolve().parent.parent / "data" / "golden"
NAMES = {"top1": 1, "top2": 2}
HEIGHT, WIDTH = 4, 8
"""Of the picture in tokens; 32 of them."""


@dataclass(frozen=True)
class Golden:
    """One set: its name is the adapter's and the model's file name too."""

    name: str
    expected: dict[str, Tensor]

    @property
    def top_k(self) -> int:
        return NAMES[self.name]

    @property
    def adapter_file(self) -> Path:
        return FOLDER / self.name / "moe_lora.safetensors"

    def load_model(self, dtype: Any = torch.float32, **options: Any) -> Any:
        """The tiny model through the host's own loader, which converts diffusers names."""
        import comfy.sd

        with torch.inference_mode():
            path = str(FOLDER / self.name / "flux_fill_tiny.safetensors")
            return comfy.sd.load_diffusion_model(path, {"dtype": dtype, **options})

    @property
    def latent(self) -> Tensor:
        """The tokens as the host's `1 96 (2 h) (2 w)`: noisy latent, then what FLUX.1-Fill is shown."""
        tokens = self.expected["img_tokens"].unflatten(1, (HEIGHT, WIDTH)).unflatten(3, (96, 2, 2))
        return tokens.permute(0, 3, 1, 4, 2, 5).reshape(1, 96, 2 * HEIGHT, 2 * WIDTH)


TOLERANCE = 1e-5
"""Largest `difference` of two right float32 results: the vectors agree to 1e-6 under every instruction set tried."""


def difference(result: Tensor, wanted: Tensor) -> float:
    """The largest difference, as a share of the largest number that is wanted."""
    return ((result - wanted).abs().max() / wanted.abs().max()).item()


def read(name: str) -> Golden:
    return Golden(name, load_file(FOLDER / name / "expected.safetensors"))


def tokens_of(latent: Tensor) -> Tensor:
    """`1 16 (2 h) (2 w)` as tokens `1 (h w) (16 2 2)`."""
    parts = latent.unflatten(3, (WIDTH, 2)).unflatten(2, (HEIGHT, 2))
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def evaluate(model: Any, golden: Golden, load: Any = None) -> Tensor:
    """One evaluation of the model as the host's sampling makes it; its velocity, as tokens on the CPU."""
    import comfy.model_management
    import comfy.patcher_extension

    model = model.clone()
    expected = {name: tensor.to(model.load_device) for name, tensor in golden.expected.items()}
    latent, sigma = golden.latent.to(model.load_device), expected["timestep"]
    with torch.inference_mode():
        (load or comfy.model_management.load_models_gpu)([model, *model.get_nested_additional_models()])
        model.pre_run()
        options = {**model.model_options["transformer_options"]}
        options["wrappers"] = comfy.patcher_extension.copy_nested_dicts(model.wrappers)
        try:
            denoised = model.model.apply_model(
                latent[:, :16],
                sigma,
                c_concat=latent[:, 16:],
                c_crossattn=expected["context"],
                y=expected["pooled"],
                guidance=expected["guidance"],
                transformer_options=options,
            )
        finally:
            model.cleanup()
    return tokens_of((latent[:, :16] - denoised) / sigma).cpu()
