"""Telling models apart by what they compute with, without reading all of it."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from ..weight_patches import patch_tensors

SAMPLES = 16
"""Numbers looked at in each tensor: any other training of a model changes nearly all of them."""


def model_identity(patcher: Any) -> str:
    """A hash of a patcher's weights and patches, the same in every session and wherever the host keeps them."""
    digest = hashlib.sha256()
    # Not its state dict: that of a GGUF holds no numbers.
    tensors = {**dict(patcher.model.named_parameters()), **dict(patcher.model.named_buffers())}
    for name, tensor in sorted(tensors.items()):
        # A weight with a LoRA merged in has its original kept aside.
        kept = patcher.backup.get(name)
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        _add(digest, tensor if kept is None else kept.weight)
    for name, patches in sorted(patcher.patches.items(), key=lambda item: str(item[0])):
        for patch in patches:
            digest.update(f"{name} {patch[0]} {patch[2]}".encode())
            for tensor in patch_tensors(patch):
                _add(digest, tensor)
    return digest.hexdigest()


def _add(digest: Any, tensor: Tensor) -> None:
    if tensor.is_meta:
        return
    flat = tensor.as_subclass(Tensor).detach().reshape(-1)
    sampled = flat[:: max(1, flat.numel() // SAMPLES)].contiguous().cpu()
    digest.update(sampled.view(torch.uint8).numpy().tobytes() if sampled.numel() else b"")
