"""Which layers of FLUX.1 an adapter trains: the paper's choice, by the names that the published files use.

Ordinary LoRA goes to the first layer, to the picture stream's attention and modulation and to the first Linear of the
single blocks; experts to the second Linear of the feed-forwards, where the paper found them to help most. The text
stream of the double blocks and the last layer stay as they are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

LayerSize = tuple[int, int]
"""Features that a Linear takes and gives."""

_ATTENTION = ("attn.to_q", "attn.to_k", "attn.to_v")


@dataclass(frozen=True)
class TargetLayer:
    """A Linear that gets an adapter.

    Attributes:
        path: where the diffusion model keeps it.
        parts: the layers that it stands for in files and how many of its rows each has; some are fused.
        inputs: the features that it takes.
        routed: whether it gets experts.
    """

    path: str
    parts: tuple[tuple[str, int], ...]
    inputs: int
    routed: bool = False

    @property
    def outputs(self) -> int:
        return sum(rows for _, rows in self.parts)


def paper_targets(
    sizes: Mapping[str, LayerSize], double_blocks: int, single_blocks: int, routed: bool
) -> list[TargetLayer]:
    """The layers that get an adapter.

    Args:
        sizes: of the diffusion model's Linears by their paths.
        double_blocks, single_blocks: how many there are.
        routed: with experts.
    """
    named = list(_layers(double_blocks, single_blocks))
    found = [_target(path, names, *sizes[path]) for path, names in named]
    if routed:
        experts = _routed_layers(double_blocks, single_blocks)
        found += [TargetLayer(path, ((name, sizes[path][1]),), sizes[path][0], True) for path, name in experts]
    return found


def _target(path: str, names: tuple[str, ...], inputs: int, outputs: int) -> TargetLayer:
    if len(names) == 1:
        return TargetLayer(path, ((names[0], outputs),), inputs)
    # Query, key and value are as wide as the model; what a fused layer has beyond them is the feed-forward's.
    rows = [inputs] * len(_ATTENTION)
    rows += [outputs - sum(rows)] * (len(names) - len(_ATTENTION))
    return TargetLayer(path, tuple(zip(names, rows, strict=True)), inputs)


def _layers(double_blocks: int, single_blocks: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "img_in", ("x_embedder",)
    for index in range(double_blocks):
        own, file = f"double_blocks.{index}.img", f"transformer_blocks.{index}"
        yield f"{own}_attn.qkv", tuple(f"{file}.{part}" for part in _ATTENTION)
        yield f"{own}_attn.proj", (f"{file}.attn.to_out.0",)
        yield f"{own}_mod.lin", (f"{file}.norm1.linear",)
    for index in range(single_blocks):
        own, file = f"single_blocks.{index}", f"single_transformer_blocks.{index}"
        yield f"{own}.linear1", tuple(f"{file}.{part}" for part in (*_ATTENTION, "proj_mlp"))
        yield f"{own}.modulation.lin", (f"{file}.norm.linear",)


def _routed_layers(double_blocks: int, single_blocks: int) -> Iterator[tuple[str, str]]:
    for index in range(double_blocks):
        yield f"double_blocks.{index}.img_mlp.2", f"transformer_blocks.{index}.ff.net.2"
    for index in range(single_blocks):
        yield f"single_blocks.{index}.linear2", f"single_transformer_blocks.{index}.proj_out"
