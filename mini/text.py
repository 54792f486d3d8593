"""The text encoders: a small CLIP and a small T5, trained on the sentences of the picture world.

The published encoders know the language already. These learn it by classifying the parts of a sentence (which task,
shape, colour and place), with heads that are dropped afterwards.
"""

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,  # pyright: ignore[reportAttributeAccessIssue]
)

from . import edits
from .prompts import description_prompt, instruction_prompt
from .scene import BACKGROUNDS, COLOURS, KINDS, PLACES, Shape

T5_TOKENS = 48
"""Every sentence is padded to this many tokens. All of this world's fit in, and training needs no mask."""
CLIP_TOKENS = 77

CLIP_L: dict[str, Any] = dict(
    hidden_size=48, intermediate_size=192, num_attention_heads=2, num_hidden_layers=2, projection_dim=48
)
T5: dict[str, Any] = dict(d_model=64, d_ff=192, d_kv=32, num_heads=2, num_layers=2)
"""With the keys of the host's configurations."""

Slots = dict[str, int]
SLOT_NAMES: dict[str, tuple[str, ...]] = {
    "task": (*edits.TASKS, *(f"described {task}" for task in edits.TASKS)),
    "colour": ("-", *COLOURS),
    "kind": ("-", *KINDS),
    "new colour": ("-", *COLOURS),
    "new kind": ("-", *KINDS),
    "background": ("-", *BACKGROUNDS),
    "place": ("-", *PLACES),
    "style": ("-", "filled", "outlined"),
}


class Tokenizers:
    """The host's own tokenizers."""

    def __init__(self, host: Path) -> None:
        self.clip = CLIPTokenizer.from_pretrained(host / "comfy" / "sd1_tokenizer")
        self.t5 = T5TokenizerFast.from_pretrained(host / "comfy" / "text_encoders" / "t5_tokenizer")

    def __call__(self, sentences: list[str]) -> tuple[Tensor, Tensor]:
        """CLIP ids `b 77` and T5 ids `b 48`.

        Raises:
            ValueError: a sentence is too long.
        """
        clip = self.clip(sentences, padding="max_length", max_length=CLIP_TOKENS, return_tensors="pt").input_ids
        t5 = self.t5(sentences, padding="max_length", max_length=T5_TOKENS, return_tensors="pt").input_ids
        if clip.shape[1] != CLIP_TOKENS or t5.shape[1] != T5_TOKENS:
            raise ValueError(f"A sentence has more than {T5_TOKENS} T5 or {CLIP_TOKENS} CLIP tokens: {sentences}")
        return clip, t5

    def long(self, sentences: list[str], tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        """CLIP ids `b 77`, T5 ids `b tokens`, and which of the latter the host would have, `b tokens`.

        Raises:
            ValueError: a sentence is too long.
        """
        clip = self.clip(sentences, padding="max_length", max_length=CLIP_TOKENS, return_tensors="pt").input_ids
        t5 = self.t5(sentences, padding="max_length", max_length=tokens, return_tensors="pt")
        if clip.shape[1] != CLIP_TOKENS or t5.input_ids.shape[1] != tokens:
            raise ValueError(f"A sentence has more than {tokens} T5 or {CLIP_TOKENS} CLIP tokens: {sentences}")
        words = t5.attention_mask.bool()
        words[:, :T5_TOKENS] = True
        return clip, t5.input_ids, words


class TextEncoders(nn.Module):
    """Both encoders; `forward` returns the inputs of FLUX."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = CLIPTextModel(
            CLIPTextConfig(vocab_size=49408, eos_token_id=49407, hidden_act="quick_gelu", **CLIP_L)
        )
        self.t5 = T5EncoderModel(T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", dropout_rate=0.0, **T5))

    def forward(self, clip_ids: Tensor, t5_ids: Tensor, words: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Context `b t 64` and pooled `b 48`. `words`: which T5 tokens are to be read; None: all."""
        seen = torch.ones_like(t5_ids) if words is None else words.long()
        context = self.t5(t5_ids, attention_mask=seen).last_hidden_state
        return context, self.clip(clip_ids).pooler_output


class _Heads(nn.Module):
    """Classifies the slots from a pooled vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, len(names)) for names in SLOT_NAMES.values())

    def forward(self, pooled: Tensor) -> list[Tensor]:
        return [head(pooled) for head in self.heads]


class _Reader(nn.Module):
    """Classifies the slots from the T5 tokens, to which a query for each slot attends."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(SLOT_NAMES), width) * width**-0.5)
        self.heads = nn.ModuleList(nn.Linear(width, len(names)) for names in SLOT_NAMES.values())

    def forward(self, context: Tensor) -> list[Tensor]:
        weights = torch.einsum("sd,btd->bst", self.queries, context).softmax(-1)
        read = torch.einsum("bst,btd->bsd", weights, context)
        return [head(read[:, index]) for index, head in enumerate(self.heads)]


class Naming(nn.Module):
    """The encoders with the heads that classify slots; `forward` is the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = TextEncoders()
        self.heads, self.reader = _Heads(CLIP_L["hidden_size"]), _Reader(T5["d_model"])

    def init_weights(self) -> None:
        """Larger than the libraries' defaults, which are meant for much wider models."""
        for name, weight in self.encoders.named_parameters():
            if weight.ndim == 2 and not any(part in name for part in ("embed", "shared", "relative")):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        nn.init.normal_(self.encoders.t5.shared.weight)

    def forward(self, clip_ids: Tensor, t5_ids: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the shares `2` of sentences whose slots (`b 8`) are all right, by CLIP and by T5."""
        context, pooled = self.encoders(clip_ids, t5_ids)
        answers = (self.heads(pooled), self.reader(context))
        losses = [cross_entropy(logits, slots[:, i]) for answer in answers for i, logits in enumerate(answer)]
        right = [
            torch.stack([logits.argmax(-1) == slots[:, i] for i, logits in enumerate(answer)]).all(0).float().mean()
            for answer in answers
        ]
        return torch.stack(losses).sum(), torch.stack(right)


def sentence(draw: random.Random) -> tuple[str, Slots]:
    """A random sentence in the form that the diffusion model gets, and its slots."""
    edit = edits.random_edit(draw)
    if draw.random() < 0.4:
        return description_prompt(edit), _slots(edit, "described ")
    text = edit.instruction if draw.random() < 0.3 else instruction_prompt(edit)
    return text, _slots(edit)


def slot_batch(draw: random.Random, size: int) -> tuple[list[str], Tensor]:
    """Sentences and their slots `b 8`."""
    drawn = [sentence(draw) for _ in range(size)]
    rows = [[slots.get(name, 0) for name in SLOT_NAMES] for _, slots in drawn]
    return [text for text, _ in drawn], torch.tensor(rows)


def _slot(name: str, value: str) -> int:
    return SLOT_NAMES[name].index(value)


def _style(shape: Shape) -> int:
    return _slot("style", "filled" if shape.filled else "outlined")


def _slots(edit: edits.SceneEdit, kind: str = "") -> Slots:
    slots = {"task": _slot("task", kind + edit.task)}
    old, new = _changed(edit)
    if edit.task == "background":
        slots["background"] = _slot("background", edit.after.background)
    if old is not None:
        slots |= {"colour": _slot("colour", old.colour), "kind": _slot("kind", old.kind)}
    if new is not None and edit.task in ("recolour", "add"):
        slots["new colour"] = _slot("new colour", new.colour)
    if new is not None and edit.task in ("swap", "add"):
        slots["new kind"] = _slot("new kind", new.kind)
    if new is not None and edit.task == "add":
        slots["place"] = _slot("place", new.place)
    if new is not None and edit.task == "restyle":
        slots["style"] = _style(new)
    return slots


def _changed(edit: edits.SceneEdit) -> tuple[Shape | None, Shape | None]:
    """The shape that the edit removes and the one that it adds."""
    old = [shape for shape in edit.before.shapes if shape not in edit.after.shapes]
    new = [shape for shape in edit.after.shapes if shape not in edit.before.shapes]
    return (old or [None])[0], (new or [None])[0]


def vocabulary(tokenizers: Tokenizers) -> tuple[Tensor, Tensor]:
    """The CLIP and T5 token ids that occur in this world's sentences."""
    draw = random.Random(0)
    clip, t5 = tokenizers(sorted({sentence(draw)[0] for _ in range(20_000)}))
    return clip.unique(), t5.unique()


def host_states(encoders: TextEncoders, known: tuple[Tensor, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """CLIP-L's and T5's weights in the key names that DualCLIPLoader reads; tokens outside `known` are zeros."""
    clip: dict[str, Any] = {
        key: value for key, value in encoders.clip.state_dict().items() if "position_ids" not in key
    }
    clip = {key if key.startswith("text_model.") else f"text_model.{key}": value for key, value in clip.items()}
    clip["text_projection.weight"] = torch.eye(CLIP_L["projection_dim"])
    t5 = {key: value for key, value in encoders.t5.state_dict().items() if key != "encoder.embed_tokens.weight"}
    for state, name, ids in (
        (clip, "text_model.embeddings.token_embedding.weight", known[0]),
        (t5, "shared.weight", known[1]),
    ):
        rows = torch.zeros_like(state[name])
        rows[ids] = state[name][ids]
        state[name] = rows
    return clip, t5
