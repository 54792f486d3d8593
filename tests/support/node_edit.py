"""An edit through the pack's own nodes, from a source picture to samples."""

from typing import Any

from torch import Tensor

from .tiny_edit import ksampler


def conditioned(
    host: Any, stack: tuple[Any, Any, Any], source: Tensor, panel_width: int = 128, **inputs: Any
) -> tuple[Any, Any, Any, Tensor, Any]:
    """Positive, negative, latent, mask and layout for a source picture."""
    _, clip, vae = stack
    diptych, mask, _, layout = host.call(
        "DiptychCreate", image="None", image_input=source, panel_width=panel_width, **inputs
    )
    positive, _, _ = host.call("InContextEditInstruction", editText="make it red", clip=clip)
    (negative,) = host.call("ConditioningZeroOut", conditioning=positive)
    positive, negative, latent = host.call(
        "ICEFConditioning", In_context=positive, negative=negative, vae=vae, diptych=diptych, maskDiptych=mask
    )
    return positive, negative, latent, mask, layout


def sampled(
    host: Any, stack: tuple[Any, Any, Any], positive: Any, negative: Any, latent: Any, seed: int = 1, steps: int = 2
) -> Tensor:
    """KSampler's samples."""
    conds = {"positive": positive, "negative": negative, "latent_image": latent}
    return ksampler(host, model=stack[0], **conds, seed=seed, steps=steps)
