"""The LoRA and the LoRA-MoE, taught on ComfyUI by the pack's own trainer, as a user's pairs are."""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from ..training.pairs.pair import EditPair, EditPairs
from ..training.settings import LINEAR, MOE, ORDINARY, UNIFORM, TrainingSettings
from .dataset import FREQUENCY
from .edits import SceneEdit
from .export import FILES
from .render import render
from .scene import PANEL

if TYPE_CHECKING:
    from ..host.training.run import TrainingModels

RATE = 1e-3
BATCH = 32
AVERAGE = 0.999
"""Of the adapter's weights: the last steps alone would add their noise."""


def edit_pairs(edits: Sequence[SceneEdit]) -> EditPairs:
    """Edits as pairs to learn from, each task as often as the base model saw it."""
    known = {f"{number:06d}": edit for number, edit in enumerate(edits)}

    def read(pair: EditPair) -> tuple[Tensor, Tensor]:
        before, after = (render(scene).movedim(0, -1) for scene in (known[pair.id].before, known[pair.id].after))
        return before, after

    return EditPairs(
        pairs=tuple(EditPair(id, (edit.instruction,), edit.task, FREQUENCY[edit.task]) for id, edit in known.items()),
        held_out=(),
        buckets=dict.fromkeys(known, (PANEL, PANEL)),
        read=read,
        fingerprint=hashlib.sha256(repr(known).encode()).hexdigest(),
    )


def settings(steps: int, routed: bool) -> TrainingSettings:
    """Of the shipped adapters: rank 32, and 4 experts of which one works on each token."""
    return TrainingSettings(
        steps=steps, learning_rate=RATE, schedule=LINEAR, adapter=MOE if routed else ORDINARY, batch_size=BATCH,
        caption_dropout=0.0, times=UNIFORM, average=AVERAGE,
    )  # fmt: skip


def load_host(folder: Path, device: torch.device) -> None:
    """Make a ComfyUI tree importable, unless one is already. On the CPU it does not look for a GPU."""
    if "comfy.model_management" not in sys.modules:
        sys.path.insert(0, str(folder))
        from comfy.cli_args import args

        args.cpu = device.type == "cpu"


@dataclass(frozen=True)
class AdapterTraining:
    """Where adapters for the mini models are trained: `work` gets states and encoded pairs."""

    work: Path
    models: Path
    edits: Sequence[SceneEdit]

    def train(self, steps: int, routed: bool) -> Path:
        """The trained file. Done before, it is written again without a step."""
        from ..host.training.folders import AdapterName
        from ..host.training.run import RunOptions, Training

        name = AdapterName("moe" if routed else "lora")
        with self._folders(), _progress(name.text):
            pairs, options = edit_pairs(self.edits), RunOptions(checkpointing=False)
            Training(self._loaded(), pairs, name, settings(steps, routed), options).run()
            return name.file

    def _loaded(self) -> "TrainingModels":
        import comfy.sd
        import comfy.utils

        from ..host.training.run import TrainingModels
        from ..private_host import text_encoders  # noqa: F401 - ComfyUI then reads small text encoders

        paths = {name: str(self.models / file) for name, file in FILES.items()}
        return TrainingModels(
            comfy.sd.load_diffusion_model(paths["model"]),
            comfy.sd.load_clip([paths["clip"], paths["t5"]], clip_type=comfy.sd.CLIPType.FLUX),
            comfy.sd.VAE(sd=comfy.utils.load_torch_file(paths["vae"])),
        )

    @contextmanager
    def _folders(self) -> Iterator[None]:
        """For this time ComfyUI writes into `work`."""
        import folder_paths

        output, (loras, _) = folder_paths.get_output_directory(), folder_paths.folder_names_and_paths["loras"]
        folder_paths.set_output_directory(str(self.work))
        loras.insert(0, str(self.work / "loras"))
        try:
            yield
        finally:
            loras.remove(str(self.work / "loras"))
            folder_paths.set_output_directory(output)


@contextmanager
def _progress(name: str) -> Iterator[None]:
    """Shows what ComfyUI's page would show."""
    import comfy.utils

    before = comfy.utils.PROGRESS_BAR_HOOK
    with tqdm(desc=name, dynamic_ncols=True) as bar:

        def show(value: int, total: int, *_: object, **__: object) -> None:
            bar.n, bar.total = value, total
            bar.refresh()

        comfy.utils.set_progress_bar_global_hook(show)
        try:
            yield
        finally:
            comfy.utils.set_progress_bar_global_hook(before)
