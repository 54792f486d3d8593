"""Writes the trained weights as files that the host's own loaders read."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import text
from .autoencoder import Autoencoder, taesd_state
from .flux import Flux, host_state

FILES = {
    "model": "diffusion_models/mini_fill.safetensors",
    "text to image": "diffusion_models/mini_dev.safetensors",
    "clip": "text_encoders/mini_clip_l.safetensors",
    "t5": "text_encoders/mini_t5.safetensors",
    "vae": "vae/mini_ae.safetensors",
    "lora": "loras/mini_lora.safetensors",
    "moe": "loras/mini_moe_lora.safetensors",
}


def write_autoencoder(model: Autoencoder, models: Path) -> None:
    _write(models / FILES["vae"], taesd_state(model))


def write_text_encoders(encoders: text.TextEncoders, tokenizers: text.Tokenizers, models: Path) -> None:
    """Each file names its sizes: without them the host expects those of the published encoders."""
    clip, t5 = text.host_states(encoders, text.vocabulary(tokenizers))
    options = {"t5xxl_min_length": text.T5_TOKENS}
    _write(models / FILES["clip"], clip, _sizes(model_config=text.CLIP_L))
    _write(models / FILES["t5"], t5, _sizes(t5xxl_model_config=text.T5, tokenizer_options=options))


def write_base(model: Flux, models: Path) -> None:
    _write(models / FILES["model"], host_state(model.state_dict()))


def write_text_to_image(model: Flux, models: Path) -> None:
    _write(models / FILES["text to image"], host_state(model.state_dict()))


def write_adapter(trained: Path, models: Path, routed: bool) -> None:
    """The trained file with its header, in half the size."""
    with safe_open(trained, framework="pt") as file:
        weights, header = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118 - no dict
    _write(models / FILES["moe" if routed else "lora"], weights, header)


def _sizes(**encoder: object) -> dict[str, str]:
    return {"tiny_text_encoder": json.dumps(encoder)}


def _write(path: Path, weights: dict[str, Tensor], header: dict[str, str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = {key: value.detach().cpu().to(torch.float16).contiguous() for key, value in weights.items()}
    save_file(halves, path, metadata=header)
