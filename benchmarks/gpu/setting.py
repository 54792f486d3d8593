"""What every entry is given: how large things are, the device, and ComfyUI with this pack."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from in_process import PACK, load_host_and_pack


class NotInThisVersionError(Exception):
    """What an entry measures is not in this version of the pack, or not on this device; the message says what."""


@dataclass(frozen=True)
class Size:
    """How large model and picture are: a panel is `panel` pixels high and wide."""

    hidden: int
    double_blocks: int
    single_blocks: int
    context: int
    vector: int
    rank: int
    panel: int
    text_tokens: int
    steps: int
    rounds: int
    edits: int

    @property
    def shape(self) -> Any:
        from support.tiny_stack import FluxShape

        return FluxShape(self.hidden, self.double_blocks, self.single_blocks, self.context, self.vector)


SIZES = {
    "full": Size(3072, 19, 38, 4096, 768, rank=32, panel=512, text_tokens=512, steps=28, rounds=10, edits=240),
    "tiny": Size(128, 1, 1, 32, 32, rank=4, panel=64, text_tokens=8, steps=8, rounds=2, edits=6),
}


@dataclass
class Setting:
    """Where an entry runs. `argument` is what follows its name in the list; ComfyUI starts when it is first
    used, and keeps its files in `folder`."""

    size: Size
    folder: Path
    argument: str = ""
    host_arguments: Sequence[str] = ()

    @cached_property
    def device(self) -> Any:
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    @cached_property
    def dtype(self) -> Any:
        import torch

        return torch.bfloat16 if self.on_cuda else torch.float32

    @cached_property
    def host(self) -> Any:
        """ComfyUI with this pack and the tiny models, as the tests have it."""
        load_host_and_pack(self.on_cuda, self.host_arguments)
        from support.inprocess import InProcessHost
        from support.tiny_stack import write_stack

        models, home = self.folder / "models", self.folder / "host"
        write_stack(models)
        home.mkdir()
        return InProcessHost.start(models, home, PACK)

    def start(self) -> None:
        """Start ComfyUI, unless it is running; its modules can be imported from then on."""
        _ = self.host

    def facts(self) -> dict[str, Any]:
        """What figures are worth nothing without."""
        import torch

        name = torch.cuda.get_device_name() if self.on_cuda else "CPU"
        return {"device": name, "torch": torch.__version__, "hidden": self.size.hidden, "panel": self.size.panel}

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        import torch

        if self.on_cuda:
            torch.cuda.synchronize()

    def require(self, node: str) -> None:
        """Raises NotInThisVersionError where ComfyUI and this pack have no such node."""
        if not self.has(node):
            raise NotInThisVersionError(f"not in this version: the node {node}")

    def has(self, node: str) -> bool:
        self.start()
        import nodes

        return node in nodes.NODE_CLASS_MAPPINGS  # pyright: ignore[reportAttributeAccessIssue]
