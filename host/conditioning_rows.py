"""The conditioning of one row of a batch, for sampling it alone as it would be sampled in the batch."""

from collections.abc import Mapping
from typing import Any

from comfy.controlnet import ControlBase
from torch import Tensor

from .sampling import row

Conds = dict[str, list[dict[str, Any]]]
"""Conditioning as guiders keep it."""

HOST_CONTROLS = ControlBase.__module__

PICTURES = ("concat_latent_image", "concat_mask")
"""Pictures for the model's input. The host stretches few of them over a batch (0 0 1 1), where it repeats everything
else (0 1 0 1): a row would get the prompt of one picture with the pixels of another."""

BATCHED = {
    "cross_attn": 3,  # b l c
    "pooled_output": 2,  # b c
    "attention_mask": 2,  # b l
    "reference_latents": 4,  # b c h w, several in a list
    "concat_latent_image": 4,  # b c h w
    "concat_mask": 3,  # b h w or b 1 h w
    "mask": 3,  # b h w; h w is one for all rows
}
"""The tensors of the host's conditioning by key: how many dimensions they have at least when they hold a batch. The
host repeats a batch from its first row where it is smaller than the latent's, and cuts it where it is larger."""


def conditioning_rows(conds: Mapping[str, list[dict[str, Any]]], index: int, batch: int) -> Conds:
    """The conditioning that row `index` of a batch gets.

    Raises:
        ValueError: pictures for another number of rows, or a ControlNet of another pack that has a hint for each
            picture, which only that pack could share out.
    """
    if batch == 1:
        return {key: list(entries) for key, entries in conds.items()}
    rows = _Rows(index, batch)
    found = {}
    for key, entries in conds.items():
        if (pictures := _pictures(entries)) not in (1, batch):
            raise ValueError(
                f"{key} holds the diptychs or pictures of {pictures} edits, and latent_image {batch} pictures, so "
                "which belongs to which is not known. Use the latent of the same Diptych Conditioning. For several "
                "results of one diptych repeat its latent (RepeatLatentBatch), of several pictures or a panorama "
                "repeat these before Create Diptych (RepeatImageBatch)."
            )
        found[key] = [{name: rows.of(name, value) for name, value in cond.items()} for cond in entries]
    return found


def unused_pictures(conds: Mapping[str, list[dict[str, Any]]], batch: int) -> int:
    """How many pictures a batch of one has in its conditioning besides the first one, which alone the host uses."""
    return max([0, *(_pictures(entries) - 1 for entries in conds.values())]) if batch == 1 else 0


def _pictures(entries: list[dict[str, Any]]) -> int:
    values = [(name, cond.get(name)) for cond in entries for name in PICTURES]
    counts = [len(value) for name, value in values if isinstance(value, Tensor) and value.ndim >= BATCHED[name]]
    return max([1, *counts])


class _Rows:
    def __init__(self, index: int, batch: int) -> None:
        self._index, self._batch = index, batch
        # The host puts prompts into one call only where they have the very same ControlNet.
        self._controls: dict[int, ControlBase] = {}

    def of(self, name: str, value: Any) -> Any:
        """The row's share of one entry of a conditioning."""
        if name == "control":
            return self._shared_control(value)
        if isinstance(value, list):
            return [self.of(name, entry) for entry in value]
        return row(value, self._index) if isinstance(value, Tensor) and self._holds_rows(name, value) else value

    def _holds_rows(self, name: str, value: Tensor) -> bool:
        if name in BATCHED:
            return value.ndim >= BATCHED[name] and len(value) > 1
        # A key that only its model or pack knows. The host makes nearly every tensor as long as the batch, so one of
        # that length is taken for one row each; of any other, the meaning of its first dimension is unknown.
        return value.ndim > 1 and len(value) == self._batch

    def _shared_control(self, control: ControlBase) -> ControlBase:
        if id(control) not in self._controls:
            self._controls[id(control)] = self._control(control)
        return self._controls[id(control)]

    def _control(self, control: Any) -> Any:
        if not any(_hints(link) > 1 for link in _chain(control)):
            return control
        copied = self._link(control)
        if control.previous_controlnet is not None:
            copied.set_previous_controlnet(self._shared_control(control.previous_controlnet))
        return copied

    def _link(self, control: Any) -> Any:
        hints = _hints(control)
        if hints > 1 and type(control).__module__ != HOST_CONTROLS:
            raise ValueError(
                f"A ControlNet of another pack ({type(control).__name__}) holds {hints} pictures for the "
                f"{self._batch} of latent_image, and only that pack knows which belongs to which. Filter the pictures "
                "one by one, or give it a single picture."
            )
        # As the host's nodes copy any ControlNet before they give it a picture; the model inside is shared.
        copied = control.copy()
        if hints > 1:
            hint = self._index % hints
            copied.cond_hint_original = row(control.cond_hint_original, hint)
            copied.extra_concat_orig = [row(mask, hint) for mask in control.extra_concat_orig]
        return copied


def _chain(control: ControlBase | None) -> list[ControlBase]:
    return [] if control is None else [control, *_chain(control.previous_controlnet)]


def _hints(control: ControlBase) -> int:
    return len(control.cond_hint_original) if isinstance(control.cond_hint_original, Tensor) else 0
