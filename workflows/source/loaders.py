"""The nodes that load an edit's models, and the note about their files."""

from collections.abc import Sequence
from dataclasses import dataclass

from .graph import Graph, Link, Output
from .models import CLIP_L, FLUX_FILL, MOE_LORA, T5, VAE, ModelFile

MODELS_NOTE = """## Models

| file | folder in `ComfyUI/models` |
| --- | --- |
{rows}

{remark}

**8 to 12 GB of VRAM**: set weight_dtype of *Load Diffusion Model* to `fp8_e4m3fn`, or replace it by *Unet Loader
(GGUF)* of the ComfyUI-GGUF pack, with a GGUF of {model} in `diffusion_models`."""


@dataclass(frozen=True)
class Models:
    """The loaded models of an edit."""

    model: Link
    clip: Link
    vae: Link


def flux(graph: Graph, model: ModelFile) -> Output:
    """A FLUX model, loaded."""
    values = {"unet_name": model["name"], "weight_dtype": "default"}
    return graph.add("UNETLoader", graph.below(20), (330, 100), values=values, models=[model])["MODEL"]


def moe_lora(graph: Graph) -> Output:
    """FLUX.1-Fill with the mixture of LoRA experts, loaded."""
    model = flux(graph, FLUX_FILL)
    lora = graph.add(
        "MoELoRALoader",
        graph.below(20),
        (330, 200),
        values={
            "model": model,
            "lora_name": MOE_LORA["name"],
            "strength": 1.0,
            "expert_strength": 1.0,
            "top_k": 1,
        },
        models=[MOE_LORA],
    )
    return lora["model"]


def reusing(graph: Graph, model: Output) -> Output:
    """The model with known tokens reused."""
    values = {
        "model": model,
        "refresh_every": 6,
        "first_steps": 4,
        "unchanged": "masked",
        "skip_steps": 0.003,
        "precision": "model",
    }
    return graph.add("ReuseKnownTokens", graph.below(20), (330, 300), values=values)["model"]


def loaded(graph: Graph, model: Output) -> Models:
    """The model with loaders of the text encoders and the VAE."""
    clip = graph.add(
        "DualCLIPLoader",
        graph.below(20),
        (330, 150),
        values={"clip_name1": CLIP_L["name"], "clip_name2": T5["name"], "type": "flux", "device": "default"},
        models=[CLIP_L, T5],
    )
    vae = graph.add("VAELoader", graph.below(20), (330, 70), values={"vae_name": VAE["name"]}, models=[VAE])
    return Models(model, clip["CLIP"], vae["VAE"])


def models_note(graph: Graph, position: tuple[int, int], lora: ModelFile) -> None:
    """The files that an edit with a LoRA needs, and where they come from."""
    remark = f"The LoRA downloads as `pytorch_lora_weights.safetensors`: **rename it** to `{lora['name']}`."
    files_note(graph, position, 420, (FLUX_FILL, CLIP_L, T5, VAE, lora), remark, "FLUX.1-Fill")


def files_note(
    graph: Graph, position: tuple[int, int], height: int, files: Sequence[ModelFile], remark: str, model: str
) -> None:
    """A table of files, a remark on them, and what to do when the `model` is too large."""
    rows = "\n".join(f"| [{file['name']}]({file['url']}) | `{file['directory']}` |" for file in files)
    graph.note(position, (440, height), "Models", MODELS_NOTE.format(rows=rows, remark=remark, model=model))
