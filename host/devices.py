"""Where the host keeps pictures between nodes: the CPU, with `--gpu-only` the GPU."""

import comfy.model_management
from torch import Tensor


def as_output(tensor: Tensor) -> Tensor:
    """A picture or mask where the host's own nodes would leave it, so that others can be mixed with it."""
    return tensor.to(comfy.model_management.intermediate_device())
