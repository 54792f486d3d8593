"""A small autoencoder in TAESD layout: 16 latent channels, each side 8 times smaller.

TAESD has 64 channels everywhere and, below full size, three blocks per size. This one has fewer of both. Its file holds
zeros for the rest, with which TAESD computes the same.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

LATENT = 16
WIDTHS = (16, 24, 48, 64)
"""Channels at full size, 1/2, 1/4 and 1/8, of the encoder and of the decoder that it is trained with."""
DECODER_WIDTHS, DECODER_BLOCKS = (32, 48, 64, 64), (1, 2, 3, 3)
"""Those of the shipped decoder, which is trained afterwards on the latents of the finished encoder."""
TAESD_WIDTH = 64
SCALE, SHIFT = 0.3611, 0.1159
"""FLUX's own. With them the host converts the latents of this file to those of the model, which have unit variance."""

_ENCODER = {"conv_in": 0, "block.0": 1, "down.0": 2, "block.1": 3, "down.1": 6, "block.2": 7, "down.2": 10}
_ENCODER |= {"block.3": 11, "conv_out": 14}
_DECODER = {"conv_in": 1, "up.0": 7, "up.1": 12, "up.2": 17, "block.3.0": 18, "conv_out": 19}
_DECODER |= {f"block.{size}.{block}": 3 + 5 * size + block for size in range(3) for block in range(3)}
_BLOCKS = {"taesd_encoder": (1, 3, 4, 5, 7, 8, 9, 11, 12, 13), "taesd_decoder": (3, 4, 5, 8, 9, 10, 13, 14, 15, 18)}


def _conv(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.conv(x) + x)


class LatentEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_in = _conv(3, WIDTHS[0])
        self.block = nn.ModuleList(_Block(width) for width in WIDTHS)
        self.down = nn.ModuleList(_conv(a, b, stride=2, bias=False) for a, b in pairwise(WIDTHS))
        self.conv_out = _conv(WIDTHS[-1], LATENT)
        self.norm = nn.BatchNorm2d(LATENT, affine=False, momentum=0.02)

    def forward(self, picture: Tensor) -> Tensor:
        """Latent `b 16 (h/8) (w/8)` of unit variance of a picture `b 3 h w`, 0..1."""
        x = self.block[0](self.conv_in(picture))
        for down, block in zip(self.down, self.block[1:], strict=True):
            x = block(down(x))
        return self.norm(self.conv_out(x))


class Decoder(nn.Module):
    """`widths` and `blocks` of each size, the largest first."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS, blocks: tuple[int, ...] = (1, 1, 1, 1)) -> None:
        super().__init__()
        widths, blocks = widths[::-1], blocks[::-1]
        self.conv_in = _conv(LATENT, widths[0])
        self.block = nn.ModuleList(
            nn.Sequential(*(_Block(width) for _ in range(count))) for width, count in zip(widths, blocks, strict=True)
        )
        self.up = nn.ModuleList(_conv(a, b, bias=False) for a, b in pairwise(widths))
        self.conv_out = _conv(widths[-1], 3)

    def forward(self, latent: Tensor) -> Tensor:
        """The picture `b 3 h w` of a latent."""
        x = self.block[0](relu(self.conv_in(torch.tanh(latent / 3) * 3)))
        for up, block in zip(self.up, self.block[1:], strict=True):
            x = block(up(interpolate(x, scale_factor=2.0)))
        return self.conv_out(x)


class Autoencoder(nn.Module):
    def __init__(self, decoder: Decoder | None = None) -> None:
        super().__init__()
        self.encoder, self.decoder = LatentEncoder(), decoder or Decoder()
        self._init_weights()

    @torch.no_grad()
    def _init_weights(self) -> None:
        for name, weight in self.named_parameters():
            if name == "decoder.conv_out.bias":
                nn.init.constant_(weight, 0.5)
            elif weight.ndim == 1:
                nn.init.zeros_(weight)
            else:
                nn.init.kaiming_normal_(weight, nonlinearity="linear" if "conv_out" in name else "relu")
            if name.endswith("conv.4.weight") or name == "decoder.conv_out.weight":
                weight.mul_(0.2)


def taesd_state(model: Autoencoder) -> dict[str, Tensor]:
    """The weights in the host's TAESD layout: zeros for missing parts, the norm merged into the last convolution."""
    state = {}
    for prefix, part, places in (
        ("taesd_encoder", model.encoder, _ENCODER),
        ("taesd_decoder", model.decoder, _DECODER),
    ):
        for index in _BLOCKS[prefix]:
            for conv in (0, 2, 4):
                state[f"{prefix}.{index}.conv.{conv}.weight"] = torch.zeros(TAESD_WIDTH, TAESD_WIDTH, 3, 3)
                state[f"{prefix}.{index}.conv.{conv}.bias"] = torch.zeros(TAESD_WIDTH)
        for name, tensor in part.named_parameters():
            for own, index in places.items():
                if name.startswith(own + "."):
                    state[f"{prefix}.{index}{name[len(own) :]}"] = tensor.detach().clone()
    _fold_norm(state, model.encoder.norm)
    state = {key: _padded(key, value) for key, value in state.items()}
    return state | {"vae_scale": torch.tensor(SCALE), "vae_shift": torch.tensor(SHIFT)}


def _fold_norm(state: dict[str, Tensor], norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    deviation = (norm.running_var + norm.eps).sqrt()
    weight, bias = "taesd_encoder.14.weight", "taesd_encoder.14.bias"
    state[weight] = state[weight] / deviation[:, None, None, None]
    state[bias] = (state[bias] - norm.running_mean) / deviation


def _padded(key: str, tensor: Tensor) -> Tensor:
    full = list(tensor.shape)
    if not key.startswith(("taesd_encoder.14.", "taesd_decoder.19.")):
        full[0] = TAESD_WIDTH
    if tensor.ndim == 4 and not key.startswith(("taesd_encoder.0.", "taesd_decoder.1.")):
        full[1] = TAESD_WIDTH
    out = torch.zeros(full)
    out[tuple(slice(size) for size in tensor.shape)] = tensor
    return out
