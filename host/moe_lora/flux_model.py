"""Where a model keeps FLUX.1's layers, and the advice in errors about a model that does not have them."""

from typing import Any

import comfy.model_base
from torch import nn

from ...moe_lora.errors import ModelMismatchError

LOAD_FILL = "Load FLUX.1-Fill (flux1-fill-dev.safetensors, Load Diffusion Model), the model that ICEdit was trained on."
FILL_CHANNELS = 96
"""Of FLUX.1-Fill's input: the noisy latent, the picture around the mask, and the mask."""
FILL_SIZE = {"depth": 19, "depth_single_blocks": 38, "hidden_size": 3072}


def inner_path(model: Any) -> str:
    """Where in the diffusion model FLUX.1's layers are, with a dot at its end; "" is the diffusion model itself.

    Some packs put a wrapper of their own in its place, with the host's FLUX in it.

    Raises:
        ModelMismatchError: a wrapper around layers that are not the host's.
    """
    diffusion_model = model.model.diffusion_model
    if _is_flux(diffusion_model) or not _is_wrapper(model):
        return ""
    for name, module in diffusion_model.named_modules():
        if _is_flux(module):
            return f"{name}."
    raise ModelMismatchError(_foreign_layers(diffusion_model))


def way_out(model: Any) -> str:
    """The advice for a file that does not fit the model: to load FLUX.1-Fill, unless it is what is loaded."""
    config = getattr(model.model.model_config, "unet_config", {})
    if not _is_flux1(model) or config.get("in_channels") != FILL_CHANNELS:
        return LOAD_FILL
    sizes = [config.get(name) for name in FILL_SIZE]
    if sizes != list(FILL_SIZE.values()):
        return (
            f"This model is a FLUX.1-Fill of another size ({sizes[0]} double and {sizes[1]} single blocks of width "
            f"{sizes[2]}; the original has 19, 38 and 3072). Choose a file that was made for it, or load the original."
        )
    return "The model is FLUX.1-Fill, so it is the file that does not fit. Choose ICEdit's, or another one for FLUX.1."


def _is_flux(module: nn.Module) -> bool:
    # Its own children: the module that torch.compile makes forwards attributes, but its weights have other names.
    children = dict(module.named_children())
    return isinstance(children.get("double_blocks"), nn.ModuleList) and "single_blocks" in children


def _is_flux1(model: Any) -> bool:
    config = getattr(model.model.model_config, "unet_config", {})
    return isinstance(model.model, comfy.model_base.Flux) and config.get("image_model", "flux") == "flux"


def _is_wrapper(model: Any) -> bool:
    """Whether the model's configuration is FLUX.1's, but its diffusion model is not the host's FLUX."""
    return _is_flux1(model) and not _is_flux(model.model.diffusion_model)


def _foreign_layers(wrapper: nn.Module) -> str:
    inner = next((type(child).__name__ for child in wrapper.children()), "nothing that can be looked into")
    return (
        f"The layers of this model are not ComfyUI's: its diffusion model is a {type(wrapper).__name__} around "
        f"{inner}, as of Nunchaku (svdq-... files), TensorRT or another pack that brings a FLUX of its own, so neither "
        "an ordinary LoRA nor experts can be put on it here. For an ordinary LoRA use that pack's own LoRA loader "
        "(Nunchaku FLUX.1 LoRA Loader); for the experts load FLUX.1-Fill as fp8 with Load Diffusion Model or as GGUF, "
        "which need as little memory."
    )
