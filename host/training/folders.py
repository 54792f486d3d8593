"""Where a training reads and writes: the adapter among the host's loras, states and encoded pairs in its output."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import folder_paths

from ...moe_lora.errors import FileError
from ...moe_lora.files import SUFFIXES, mapped_tensors
from ...training.errors import TrainingError
from ...training.export import CARD_KEY

_FOLDER = "icedit_training"
_NAME = re.compile(r"[^\\/:*?\"<>|\x00-\x1f]+(/[^\\/:*?\"<>|\x00-\x1f]+)*")


@dataclass(frozen=True)
class AdapterName:
    """The name of the file to write, below models/loras.

    Raises:
        TrainingError: no name for a file, or one that leads elsewhere.
    """

    text: str

    def __post_init__(self) -> None:
        parts = self.stem.split("/")
        if not _NAME.fullmatch(self.stem) or any(not part.strip(" .") for part in parts):
            raise TrainingError(
                f"name is {self.text!r}, expected the name of a file to write into models/loras, such as my_edit; a "
                "folder may stand before it, as in edits/my_edit."
            )

    @property
    def stem(self) -> str:
        name = self.text.strip().replace("\\", "/")
        return next((name[: -len(end)] for end in SUFFIXES if name.lower().endswith(end)), name)

    @property
    def lora_name(self) -> str:
        """The name as loaders list it."""
        return str(Path(f"{self.stem}.safetensors"))

    @property
    def file(self) -> Path:
        return Path(folder_paths.get_folder_paths("loras")[0]) / self.lora_name

    def states(self, run: str) -> Path:
        """The folder for the states of a run of this name."""
        return training_folder() / "states" / self.stem / run

    def share(self) -> PurePosixPath:
        """Put the file into the host's output folder too, from where its `/view` hands it out; it has no such way for
        models.

        Returns:
            the path below that folder.

        Raises:
            OSError: it cannot be written there.
        """
        output = Path(folder_paths.get_output_directory())
        shared = training_folder() / self.lora_name
        shared.parent.mkdir(parents=True, exist_ok=True)
        shared.unlink(missing_ok=True)
        try:
            os.link(self.file, shared)
        except OSError:
            # Another drive, or one that knows no second names for a file.
            shutil.copyfile(self.file, shared)
        return PurePosixPath(*shared.relative_to(output).parts)

    def check_free(self) -> None:
        """Check that writing the file destroys nothing but an earlier result of a training.

        Raises:
            TrainingError: there is such a file, and no training here wrote it.
        """
        if not self.file.exists():
            return
        try:
            header = mapped_tensors(self.file)[1]
        except FileError:
            header = {}
        if CARD_KEY not in header:
            raise TrainingError(
                f"models/loras has a file {self.lora_name} already, which was not trained here and would be lost. "
                "Choose another name."
            )


def training_folder() -> Path:
    return Path(folder_paths.get_output_directory()) / _FOLDER


def encoded_folder() -> Path:
    """The folder for encoded pairs. Delete it when no training needs them any more; they are made anew if one does."""
    return training_folder() / "encoded"
