"""Where the host keeps pictures between nodes (the CPU, with `--gpu-only` the GPU), and how much room there is."""

import comfy.model_management
import torch
from torch import Tensor

BYTES_PER_PIXEL = 32
"""A picture as float32, what it is read from, and the restored one with its mask."""
ORDINARY_PIXELS = 64_000_000
"""Pictures of up to this size are read however little memory is free: the host and the system make room for them."""


def as_output(tensor: Tensor) -> Tensor:
    """A picture or mask where the host's own nodes would leave it, so that others can be mixed with it."""
    return tensor.to(of_outputs())


def of_outputs() -> torch.device:
    """Where the host's own nodes leave pictures."""
    return comfy.model_management.intermediate_device()


def most_pixels() -> int:
    """The pixels that a picture may have for the memory that is free."""
    free = comfy.model_management.get_free_memory(torch.device("cpu"))
    return max(ORDINARY_PIXELS, int(free) // BYTES_PER_PIXEL)
