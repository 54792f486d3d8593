"""ComfyUI inside the test process: real nodes, real models, private folders."""

import asyncio
import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILES = {
    "model": "flux1-fill-dev.safetensors",
    "clip_l": "clip_l.safetensors",
    "t5": "t5xxl_fp8_e4m3fn.safetensors",
    "vae": "ae.safetensors",
    "lora": "icedit_normal_lora.safetensors",
    "moe_lora": "icedit_moe_lora.safetensors",
}


@dataclass(frozen=True)
class InProcessHost:
    folder: Path

    @classmethod
    def start(cls, models: Path, folder: Path, pack: Path) -> "InProcessHost":
        import folder_paths
        import nodes

        for name in ("input", "output", "temp", "user"):
            (folder / name).mkdir()
            getattr(folder_paths, f"set_{name}_directory")(str(folder / name))
        for kind in models.iterdir():
            folder_paths.add_model_folder_path(kind.name, str(kind), is_default=True)
        asyncio.run(nodes.init_builtin_extra_nodes())
        installed = folder / "custom_nodes" / "comfyui-icedit"
        installed.parent.mkdir()
        installed.symlink_to(pack, target_is_directory=True)
        text_encoders = pack / "private_host" / "text_encoders"
        for package in (installed, text_encoders):
            assert asyncio.run(nodes.load_custom_node(str(package))), f"ComfyUI could not load {package}"
        return cls(folder)

    @property
    def input(self) -> Path:
        return self.folder / "input"

    def call(self, node: str, **inputs: Any) -> tuple[Any, ...]:
        """Execute one node as the host would, under inference mode; its outputs."""
        import nodes
        import torch

        node_class = nodes.NODE_CLASS_MAPPINGS[node]
        with torch.inference_mode():
            if hasattr(node_class, "GET_SCHEMA"):
                output = node_class.EXECUTE_NORMALIZED(**inputs)
                return tuple(output.result or ())
            function = getattr(node_class(), node_class.FUNCTION)
            output = asyncio.run(function(**inputs)) if inspect.iscoroutinefunction(function) else function(**inputs)
        return tuple(output["result"] if isinstance(output, dict) else output)

    def module(self, name: str) -> Any:
        """A module of the pack as the host loaded it, under a name of its own; `icedit` is another copy."""
        import nodes

        pack = nodes.NODE_CLASS_MAPPINGS["MoELoRALoader"].__module__.removesuffix(".nodes.moe_lora")
        return importlib.import_module(f"{pack}.{name}")

    def load_model(self, dtype: str = "default", name: str = FILES["model"]) -> Any:
        return self.call("UNETLoader", unet_name=name, weight_dtype=dtype)[0]

    def load_clip(self) -> Any:
        return self.call("DualCLIPLoader", clip_name1=FILES["clip_l"], clip_name2=FILES["t5"], type="flux")[0]

    def load_vae(self) -> Any:
        return self.call("VAELoader", vae_name=FILES["vae"])[0]
