"""Model calls that record what is kept of known tokens, and calls that compute the open tokens alone.

What a call needs is in its transformer options, and nothing is put on the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy.ldm.flux.math import apply_rope
from torch import Tensor

from ...known_tokens.store import Block, KnownTokens
from ...known_tokens.tokens import TokenSplit

KNOWN_TOKENS_KEY = "icedit_known_tokens"

Options = dict[str, Any]


@dataclass(frozen=True, eq=False)
class KnownTokensCall:
    """One model call: positions among its picture tokens, the number of its text tokens and blocks, and what is kept.

    `seen`: the blocks that ran in this call.
    """

    split: TokenSplit
    text: int
    blocks: int
    kept: KnownTokens
    records: bool = False
    seen: set[Block] = field(default_factory=set)

    @property
    def share(self) -> float:
        """Of all tokens those that a short call computes."""
        return (self.text + len(self.split.open)) / (self.text + self.split.total)


def recording_options(options: Options, call: KnownTokensCall, last: int) -> Options:
    """Transformer options with which a model call fills `call.kept`; `last` is the last single block."""
    return _with_patches(options, call, {"attn1_patch": _record}, {("single_block", last): _keep_output})


def short_options(options: Options, call: KnownTokensCall, last: int) -> Options:
    """Transformer options with which a model call computes the open tokens alone."""
    patches = {"post_input": _take_open, "attn1_patch": _attend_to_known}
    return _with_patches(options, call, patches, {("single_block", last): _put_back})


def _with_patches(
    options: Options, call: KnownTokensCall, patches: Mapping[str, Any], blocks: Mapping[Any, Any]
) -> Options:
    there, replaced = options.get("patches", {}), options.get("patches_replace", {})
    return {
        **options,
        KNOWN_TOKENS_KEY: call,
        "patches": {**there, **{name: [*there.get(name, ()), patch] for name, patch in patches.items()}},
        "patches_replace": {**replaced, "dit": {**replaced.get("dit", {}), **blocks}},
    }


def _record(q: Tensor, k: Tensor, v: Tensor, pe: Tensor, extra_options: Options, **_: Any) -> Options:
    call, block = extra_options[KNOWN_TOKENS_KEY], _block(extra_options)
    q, k = apply_rope(q, k, pe)
    at = call.split.known + call.text
    call.kept.put(block, k.index_select(2, at), v.index_select(2, at))
    call.seen.add(block)
    # The positions are in already.
    return {"q": q, "k": k, "pe": None}


def _keep_output(args: Options, extra: Options) -> Options:
    call = args["transformer_options"][KNOWN_TOKENS_KEY]
    out = extra["original_block"](args)
    call.kept.put_output(out["img"].index_select(1, call.split.known + call.text))
    return out


def _take_open(inputs: Options) -> Options:
    """After the host's first layer and before it computes positions."""
    at = inputs["transformer_options"][KNOWN_TOKENS_KEY].split.open
    return {**inputs, "img": inputs["img"].index_select(1, at), "img_ids": inputs["img_ids"].index_select(1, at)}


def _attend_to_known(q: Tensor, k: Tensor, v: Tensor, pe: Tensor, extra_options: Options, **_: Any) -> Options:
    call, block = extra_options[KNOWN_TOKENS_KEY], _block(extra_options)
    if q.shape[2] != call.text + len(call.split.open):
        raise ValueError(
            "A node before or after Reuse Known Tokens put code of its own in the place of FLUX's, which cannot leave "
            "out tokens. Remove that node, or Reuse Known Tokens."
        )
    keys, values = call.kept.at(block, v.device)
    call.seen.add(block)
    q, k = apply_rope(q, k, pe)
    return {"q": q, "k": torch.cat((k, keys), 2), "v": torch.cat((v, values), 2), "pe": None}


def _put_back(args: Options, extra: Options) -> Options:
    """The last layer and the host's unpatchify want every token. Known ones get their last output, so that step caches,
    which compare whole outputs, see them change no more than they would."""
    call = args["transformer_options"][KNOWN_TOKENS_KEY]
    out = extra["original_block"](args)["img"]
    whole = out.new_empty(out.shape[0], call.text + call.split.total, out.shape[2])
    whole[:, : call.text] = out[:, : call.text]
    whole[:, call.text + call.split.open] = out[:, call.text :]
    whole[:, call.text + call.split.known] = call.kept.output_at(out.device)
    return {"img": whole}


def _block(extra_options: Options) -> Block:
    return extra_options["block_type"], extra_options["block_index"]
