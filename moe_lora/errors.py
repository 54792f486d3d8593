"""What can be wrong with an adapter file, or with the model it is put on. Every message says what to do."""

from torch import Tensor

DOWNLOAD = "Download the file again, for the paper's from huggingface.co/sanaka87/ICEdit-MoE-LoRA."


class AdapterError(ValueError):
    """An adapter was not applied; the model that came in is unchanged."""


class FileError(AdapterError):
    """The file cannot be read, or what it holds is no complete, sound adapter."""


class ModelMismatchError(AdapterError):
    """The file is sound but does not fit this model."""


def wrong_shape(key: str, tensor: Tensor, expected: str) -> str:
    """What a `FileError` says about a tensor of another shape."""
    return f"{key} has the shape {list(tensor.shape)}, expected {expected}. {DOWNLOAD}"
