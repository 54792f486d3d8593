"""A step of training a MoE-LoRA: seconds and memory, by checkpointing and by the precision of the base model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from ..models import autoencoder, flux_fill
from ..setting import Setting
from ..timing import measured

NODE, PAIRS = "TrainMoELoRA", "LoadEditPairs"
STEPS = (1, 2, 12)
"""Trainings of so many steps. The first one encodes and loads; what the others differ by takes no setting up."""


def figures(setting: Setting) -> Iterator[dict[str, Any]]:
    setting.require(NODE)
    setting.require(PAIRS)
    import torch

    vae = autoencoder(setting)
    bases = {"fp8_e4m3fn": torch.float8_e4m3fn, "bfloat16": torch.bfloat16, "float32": None}
    del bases["float32" if setting.on_cuda else "bfloat16"]
    for base, dtype in bases.items():
        model = flux_fill(setting, {"dtype": dtype} if dtype else None)
        for checkpointing in (True, False):
            name = f"{base}, {'with' if checkpointing else 'without'} checkpointing"
            try:
                yield {name: step_of_training(setting, model, vae, checkpointing)}
            except torch.cuda.OutOfMemoryError:
                yield {name: "does not fit"}


def step_of_training(setting: Setting, model: Any, vae: Any, checkpointing: bool) -> dict[str, Any]:
    inputs = {"model": model, "clip": text_encoders(setting), "vae": vae, "pairs": edit_pairs(setting)}
    inputs |= {"rank": setting.size.rank, "experts": 4, "top_k": 1, "batch_size": 1, "checkpointing": checkpointing}
    _, few, many = (
        measured(
            setting, lambda steps=steps: setting.host.call(NODE, name=f"{uuid4().hex} {steps}", steps=steps, **inputs)
        )[0]
        for steps in STEPS
    )
    return many | {"step_s": round((many["seconds"] - few["seconds"]) / (STEPS[-1] - STEPS[-2]), 3)}


def edit_pairs(setting: Setting) -> Any:
    """Pictures of coarse colours, and the same with the colours exchanged, read as a user's are."""
    import folder_paths
    import torch
    from PIL import Image

    size = (setting.size.panel, setting.size.panel)
    folders = [Path(folder_paths.get_input_directory(), name) for name in ("before", "after")]
    draw = torch.Generator().manual_seed(0)
    for folder in folders:
        folder.mkdir(exist_ok=True)
    for number in range(4):
        pixels = torch.randint(0, 256, (8, 8, 3), generator=draw, dtype=torch.uint8)
        for folder, shown in zip(folders, (pixels, 255 - pixels), strict=True):
            Image.fromarray(shown.numpy()).resize(size, Image.Resampling.NEAREST).save(folder / f"{number}.png")
    names = {"sources": folders[0].name, "edited": folders[1].name, "instruction": "exchange the colours"}
    return setting.host.call(PAIRS, **names, panel_size=setting.size.panel)[0]


def text_encoders(setting: Setting) -> Any:
    """Encoders of few layers whose results have the width that the model takes."""
    import comfy.sd
    from safetensors.torch import save_file
    from support import tiny_stack

    wide = {"hidden_size": setting.size.vector, "projection_dim": setting.size.vector}
    with patch.dict(tiny_stack.CLIP_L, wide), patch.dict(tiny_stack.T5, d_model=setting.size.context):
        files = {"clip_l": tiny_stack.clip_l(), "t5": tiny_stack.t5()}
        options = {"model_config": {**tiny_stack.CLIP_L}, "t5xxl_model_config": {**tiny_stack.T5}}
    paths = [str(setting.folder / f"{name}.safetensors") for name in files]
    for path, weights in zip(paths, files.values(), strict=True):
        save_file(weights, path)
    return comfy.sd.load_clip(paths, clip_type=comfy.sd.CLIPType.FLUX, model_options=options)
