"""The mini models' edits with FLUX.1-Fill as a GGUF, loaded by the ComfyUI-GGUF pack; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/quantized.py <folder of ComfyUI-GGUF> [--edits N]

Its python needs the package gguf. The held-out edits of drawings (mini_editbench.py) are made with the float file and
with quantized ones, by the shipped workflows: ordinary LoRA, MoE-LoRA, early filter. `success` is a share
(mini/success.py), `off` the mean difference from the result with the float file, of 0..255.
"""

import argparse
import asyncio
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from in_process import PACK, load_pack
from mini_editbench import held_out
from PIL import Image

MODELS = PACK / "mini" / "models"
FLOAT = "mini_fill.safetensors"
KINDS = ("Q8_0", "Q5_1", "Q4_0")
WORKFLOWS = ("icedit", "icedit_moe", "icedit_early_filter")
BLOCK = 32
"""How many weights these quantizations pack together."""


def write_gguf(target: Path, kind: str) -> None:
    """Write the mini FLUX.1-Fill with the matrices of its blocks quantized, as converters of FLUX do."""
    import gguf
    from safetensors.numpy import load_file

    quantization = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(target, "flux")
    for name, weight in load_file(MODELS / "diffusion_models" / FLOAT).items():
        values = weight.astype(np.float32)
        if "_blocks." in name and values.ndim == 2 and values.shape[1] % BLOCK == 0:
            writer.add_tensor(name, gguf.quants.quantize(values, quantization), raw_dtype=quantization)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def lay_out(models: Path, gguf_pack: Path) -> list[str]:
    """Make a models folder with the quantized files and with ComfyUI-GGUF as a pack; returns the files' names."""
    shutil.copytree(MODELS, models, dirs_exist_ok=True)
    (models / "custom_nodes").mkdir()
    (models / "custom_nodes" / "ComfyUI-GGUF").symlink_to(gguf_pack.resolve(), target_is_directory=True)
    names = [f"mini_fill_{kind}.gguf" for kind in KINDS]
    for kind, name in zip(KINDS, names, strict=True):
        write_gguf(models / "diffusion_models" / name, kind)
    return names


def prompt(workflow: str, file: str) -> dict[str, Any]:
    """A shipped workflow with the mini models and FLUX.1-Fill from `file`; its result is the edited panel."""
    from icedit.headless.embedded import with_mini_models
    from icedit.headless.workflow import load_workflow, with_value

    filled = with_mini_models(load_workflow(PACK / "workflows" / "api" / f"{workflow}.json"))
    if file != FLOAT:
        (loader,) = (node for node in filled.values() if node["class_type"] == "UNETLoader")
        loader |= {"class_type": "UnetLoaderGGUF", "inputs": {"unet_name": file}}
    return with_value(filled, "DecodeRightHalf.restore=panel")


async def measure(url: str, files: list[str], edits: list[Any], folder: Path) -> dict[str, Any]:
    import torch
    from icedit.headless.client import ComfyClient
    from icedit.headless.workflow import with_instruction, with_picture
    from icedit.mini.render import render
    from icedit.mini.success import verdict

    results: dict[str, Any] = {}
    async with ComfyClient(url) as client:
        names = []
        for index, edit in enumerate(edits):
            pixels = (render(edit.before).movedim(0, -1) * 255).round().byte().numpy()
            Image.fromarray(pixels).save(folder / f"{index}.png")
            names.append(await client.upload_picture(folder / f"{index}.png"))
        for workflow in WORKFLOWS:
            reference: list[np.ndarray] = []
            for file in files:
                panels = []
                for edit, name in zip(edits, names, strict=True):
                    filled = with_instruction(with_picture(prompt(workflow, file), name), edit.instruction)
                    saved = next(p for p in (await client.run(filled)).pictures if p.kind == "output")
                    content = await client.download(saved)
                    panels.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(np.float32))
                reference = reference or panels
                found = [
                    verdict(edit, torch.from_numpy(panel).movedim(-1, 0) / 255).success
                    for edit, panel in zip(edits, panels, strict=True)
                ]
                off = statistics.fmean(float(abs(a - b).mean()) for a, b in zip(panels, reference, strict=True))
                results[f"{workflow} {file}"] = {"success": round(statistics.fmean(found), 3), "off": round(off, 2)}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="quantized.py")
    parser.add_argument("pack", type=Path, help="folder of ComfyUI-GGUF")
    parser.add_argument("--edits", type=int, default=24)
    options = parser.parse_args()
    load_pack()
    from icedit.private_host.environment import Environment
    from icedit.private_host.server import running_server

    environment = Environment(python=Path(sys.executable), host=Path(os.environ["ICEDIT_HOST"]))
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder, "models")
        files = [FLOAT, *lay_out(models, options.pack)]
        with running_server(environment, models) as server:
            results = asyncio.run(measure(server.url, files, held_out(options.edits), Path(folder)))
    print(json.dumps({"benchmark": "quantized", "edits": options.edits, **results}))


if __name__ == "__main__":
    main()
