"""What other nodes add to a model call, and whether the call can still leave tokens out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...known_tokens.tokens import TokenSplit

Options = dict[str, Any]


def foreign_patch(options: Options) -> str | None:
    """The kind of a patch of another node that sees tokens by their place, or changes them; None if there is none."""
    for kind, patches in options.get("patches", {}).items():
        if patches:
            return kind
    for kind, replaced in options.get("patches_replace", {}).items():
        if replaced:
            return f"patches_replace {kind}"
    return None


@dataclass(frozen=True, eq=False)
class CallInputs:
    """What a call gets besides pictures and text: a ControlNet's residuals, an attention mask, reference latents."""

    control: Mapping[str, Any] | None
    extra: Mapping[str, Any]

    def reference_tokens(self, patch: int) -> int:
        """The host puts them behind the picture's."""
        references = self.extra.get("ref_latents") or ()
        return sum(-(-latent.shape[-2] // patch) * -(-latent.shape[-1] // patch) for latent in references)

    def fits(self, picture: int, total: int, text: int) -> bool:
        """Whether tokens can be left out: everything has its place by token."""
        added = [add for adds in (self.control or {}).values() for add in adds or () if add is not None]
        mask = self.extra.get("attention_mask")
        sides = () if mask is None else mask.shape[-2:]
        return all(add.ndim == 3 and add.shape[1] == picture for add in added) and all(
            side in (1, text + total) for side in sides
        )

    def shortened(self, split: TokenSplit, picture: int, text: int, last: int) -> "CallInputs":
        """For a call with the open tokens alone; behind its last single block there are all tokens again."""
        at = split.open[split.open < picture]
        control = {
            name: [
                add if add is None or (name == "output" and index == last) else add.index_select(1, at)
                for index, add in enumerate(adds or ())
            ]
            for name, adds in (self.control or {}).items()
        }
        mask = self.extra.get("attention_mask")
        changed = {} if mask is None else {"attention_mask": _short_mask(mask, split, text)}
        return CallInputs(control or None, {**self.extra, **changed})


def _short_mask(mask: Tensor, split: TokenSplit, text: int) -> Tensor:
    """Queries of text and open tokens; keys in the order in which they are put together, the known ones last."""
    front = torch.arange(text, device=mask.device)
    opened, known = (split.open + text).to(mask.device), (split.known + text).to(mask.device)
    for dim, at in ((-2, torch.cat((front, opened))), (-1, torch.cat((front, opened, known)))):
        if mask.shape[dim] > 1:
            mask = mask.index_select(dim, at)
    return mask
