"""FLUX as a trainable module, in the host's key names.

ComfyUI's own FLUX adds in place, so it cannot be differentiated. This one computes the same function; a test compares
both on the trained weights.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, rms_norm, scaled_dot_product_attention, silu

HEAD_DIM = 128
AXES = (16, 56, 56)
"""How many channels of a head encode a token's index, row and column."""
PATCH = 2
TEXT_TO_IMAGE_INPUTS = 64


@dataclass(frozen=True)
class MiniFluxShape:
    """Sizes of a FLUX.1-Fill. `inputs` are 2 x 2 patches of 16 latent, 16 masked latent and 64 mask channels; those of
    a text-to-image FLUX are `TEXT_TO_IMAGE_INPUTS`, the latent alone."""

    hidden: int = 128
    double_blocks: int = 1
    single_blocks: int = 6
    context: int = 64
    vector: int = 48
    inputs: int = 384
    outputs: int = 64


def position_embedding(text: int, rows: int, columns: int) -> Tensor:
    """Rotations `tokens 64 2` (cos, sin): of text tokens, which are all at 0, then of patches in row-major order."""
    grid = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1).reshape(-1, 2)
    ids = torch.cat([torch.zeros(text, 3), torch.nn.functional.pad(grid, (1, 0)).float()]).double()
    angles = [
        ids[:, axis, None] / 10000 ** (torch.arange(0, size, 2).double() / size) for axis, size in enumerate(AXES)
    ]
    flat = torch.cat(angles, dim=-1)
    return torch.stack([flat.cos(), flat.sin()], -1).float()


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """x `b heads tokens (pairs 2)` with every pair rotated."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rotation.unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


def timestep_embedding(t: Tensor) -> Tensor:
    """Times `b` in 0..1 (or guidances) as `b 256`."""
    frequencies = torch.exp(-torch.arange(128, device=t.device) * (torch.log(torch.tensor(10000.0)) / 128))
    angles = 1000.0 * t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


class _Embedder(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.in_layer, self.out_layer = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_layer(silu(self.in_layer(x)))


class _Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(HEAD_DIM))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, (HEAD_DIM,), self.scale.to(x.dtype), 1e-6)


class _QKNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query_norm, self.key_norm = _Norm(), _Norm()

    def forward(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`b tokens (3 heads 128)` as three `b heads tokens 128`."""
        q, k, v = qkv.unflatten(-1, (3, -1, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        return self.query_norm(q), self.key_norm(k), v


class _Modulation(nn.Module):
    def __init__(self, hidden: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.lin = nn.Linear(hidden, parts * hidden)

    def forward(self, vector: Tensor) -> tuple[Tensor, ...]:
        return self.lin(silu(vector))[:, None].chunk(self.parts, -1)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


def _attention(q: Tensor, k: Tensor, v: Tensor, rotation: Tensor, seen: Tensor | None) -> Tensor:
    mixed = scaled_dot_product_attention(_rotate(q, rotation), _rotate(k, rotation), v, seen)
    return mixed.transpose(1, 2).flatten(-2)


class _Attention(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.qkv, self.norm, self.proj = nn.Linear(hidden, 3 * hidden), _QKNorm(), nn.Linear(hidden, hidden)


class _Stream(nn.Module):
    """One stream of a double block."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mod, self.attn = _Modulation(hidden, 6), _Attention(hidden)
        self.mlp = nn.Sequential(
            nn.Linear(hidden, 4 * hidden), nn.GELU(approximate="tanh"), nn.Linear(4 * hidden, hidden)
        )

    def finish(self, x: Tensor, mixed: Tensor, mod: tuple[Tensor, ...]) -> Tensor:
        x = torch.addcmul(x, self.attn.proj(mixed), mod[2])
        return torch.addcmul(x, self.mlp(_modulated(x, mod[3], mod[4])), mod[5])


class _DoubleBlock(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.img, self.txt = _Stream(hidden), _Stream(hidden)

    def forward(
        self, img: Tensor, txt: Tensor, vector: Tensor, rotation: Tensor, seen: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        mods = [stream.mod(vector) for stream in (self.txt, self.img)]
        parts = [
            stream.attn.norm(stream.attn.qkv(_modulated(x, mod[0], mod[1])))
            for stream, x, mod in zip((self.txt, self.img), (txt, img), mods, strict=True)
        ]
        joined = [torch.cat(pair, 2) for pair in zip(*parts, strict=True)]
        mixed = _attention(joined[0], joined[1], joined[2], rotation, seen)
        return (
            self.img.finish(img, mixed[:, txt.shape[1] :], mods[1]),
            self.txt.finish(txt, mixed[:, : txt.shape[1]], mods[0]),
        )


class _SingleBlock(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.linear1, self.linear2 = nn.Linear(hidden, 7 * hidden), nn.Linear(5 * hidden, hidden)
        self.norm, self.modulation = _QKNorm(), _Modulation(hidden, 3)

    def forward(self, x: Tensor, vector: Tensor, rotation: Tensor, seen: Tensor | None) -> Tensor:
        shift, scale, gate = self.modulation(vector)
        qkv, mlp = self.linear1(_modulated(x, shift, scale)).split((3 * self.hidden, 4 * self.hidden), -1)
        q, k, v = self.norm(qkv)
        mixed = _attention(q, k, v, rotation, seen)
        out = self.linear2(torch.cat([mixed, gelu(mlp, approximate="tanh")], -1))
        return torch.addcmul(x, out, gate)


class _LastLayer(nn.Module):
    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(vector)[:, None].chunk(2, -1)
        return self.linear(_modulated(x, shift, scale))


class Flux(nn.Module):
    """The velocity of a diptych; see `forward`."""

    def __init__(self, shape: MiniFluxShape) -> None:
        super().__init__()
        hidden = shape.hidden
        self.img_in, self.txt_in = nn.Linear(shape.inputs, hidden), nn.Linear(shape.context, hidden)
        self.time_in, self.guidance_in = _Embedder(256, hidden), _Embedder(256, hidden)
        self.vector_in = _Embedder(shape.vector, hidden)
        self.double_blocks = nn.ModuleList(_DoubleBlock(hidden) for _ in range(shape.double_blocks))
        self.single_blocks = nn.ModuleList(_SingleBlock(hidden) for _ in range(shape.single_blocks))
        self.final_layer = _LastLayer(hidden, shape.outputs)

    def forward(
        self,
        patches: Tensor,
        rotation: Tensor,
        t: Tensor,
        context: Tensor,
        pooled: Tensor,
        guidance: Tensor,
        words: Tensor | None = None,
    ) -> Tensor:
        """Velocity `b patches 64` of `patches b patches inputs` at times t `b`, for text `b tokens d` and pooled `b d`.

        `words`: which tokens of the text belong to the sentence, `b tokens`; None where all do.
        """
        seen = None
        if words is not None:
            seen = torch.nn.functional.pad(words, (0, patches.shape[1]), value=True)[:, None, None]
        vector = self.time_in(timestep_embedding(t)) + self.guidance_in(timestep_embedding(guidance))
        vector = vector + self.vector_in(pooled)
        img, txt = self.img_in(patches), self.txt_in(context)
        for block in self.double_blocks:
            img, txt = block(img, txt, vector, rotation, seen)
        x = torch.cat([txt, img], 1)
        for block in self.single_blocks:
            x = block(x, vector, rotation, seen)
        return self.final_layer(x[:, txt.shape[1] :], vector)

    @torch.no_grad()
    def init_weights(self, panel_columns: int) -> None:
        """Initial weights. The first block's head attends to the same place in the left panel.

        FLUX has learned this; a small model needs a long time to.
        """
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
                if name.endswith(_ZERO):
                    nn.init.zeros_(weight)
                if name.endswith(_SMALL):
                    weight.mul_(0.5)
            elif not name.endswith(".scale"):
                nn.init.zeros_(weight)
        for module in self.modules():
            if isinstance(module, _Modulation):
                for gate in range(2, module.parts, 3):
                    nn.init.constant_(module.lin.bias.chunk(module.parts)[gate], 0.5)
        first = self.double_blocks[0]
        assert isinstance(first, _DoubleBlock)
        _look_left(first.img.attn, panel_columns)


_ZERO = (".mod.lin.weight", ".modulation.lin.weight", "adaLN_modulation.1.weight", "final_layer.linear.weight")
_SMALL = (".proj.weight", ".mlp.2.weight", ".linear2.weight")


def _look_left(attention: _Attention, columns: int) -> None:
    """Set biases with which a head attends most to the patch `columns` to the left of its own."""
    query, key = torch.zeros(HEAD_DIM), torch.zeros(HEAD_DIM)
    for pair in range(4):
        row, column = AXES[0] + 2 * pair, AXES[0] + AXES[1] + 2 * pair
        angle = columns * 10000 ** (-2 * pair / AXES[2])
        query[row] = key[row] = query[column] = 1.0
        key[column], key[column + 1] = math.cos(angle), math.sin(angle)
    attention.qkv.weight[: 2 * HEAD_DIM].mul_(0.1)
    attention.qkv.bias[:HEAD_DIM] = 3 * query
    attention.qkv.bias[HEAD_DIM : 2 * HEAD_DIM] = 3 * key
    attention.norm.query_norm.scale.fill_(2.0)
    attention.norm.key_norm.scale.fill_(2.0)


def patchify(x: Tensor) -> Tensor:
    """`b c (rows 2) (columns 2)` as `b (rows columns) (c 2 2)`."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)


def unpatchify(x: Tensor, rows: int, columns: int) -> Tensor:
    """`b (rows columns) (c 2 2)` as `b c (rows 2) (columns 2)`."""
    b, _, channels = x.shape
    return (
        x.reshape(b, rows, columns, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, -1, rows * 2, columns * 2)
    )


_HOST_NAMES = ((".img.", ".img_"), (".txt.", ".txt_"))


def host_state(state: dict[str, Any]) -> dict[str, Any]:
    """A state dict of `Flux` in the key names of the published files."""
    return dict(_renamed(state, forward=True))


def own_state(state: dict[str, Any]) -> dict[str, Any]:
    """The reverse of `host_state`."""
    return dict(_renamed(state, forward=False))


def _renamed(state: dict[str, Any], forward: bool) -> Iterator[tuple[str, Any]]:
    for key, value in state.items():
        for own, host in _HOST_NAMES:
            key = key.replace(own, host) if forward else key.replace(host, own)
        yield key, value
