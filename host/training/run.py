"""A whole training: checks, encoding, steps, the file."""

import hashlib
import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from ...training.errors import TrainingError
from ...training.export import write_adapter_file
from ...training.fit import Occasions, fit
from ...training.pairs.pair import EditPairs
from ...training.settings import CONSTANT, TrainingSettings
from ...training.sheet import EditSample, training_sheet
from ...training.start import start_from
from ...training.states import LearningState, StateFolder
from .. import files
from .encode import EncodedPairs, Encoders, encode_all
from .fill_model import check_trainable, new_adapter
from .folders import AdapterName, encoded_folder
from .identity import model_identity
from .learning import Learning, out_of_memory_explained
from .needs import memory_needs
from .progress import TrainingProgress
from .samples import MOST
from .start import NO_FILE, start_path, start_tensors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """What a training starts from, and what does not change what is learned.

    Raises:
        TrainingError: a number that makes no sense.
    """

    checkpointing: bool = True
    start_from: str = NO_FILE
    save_every: int = 200
    keep_states: int = 2
    sample_every: int = 0

    def __post_init__(self) -> None:
        for name, least in (("save_every", 1), ("keep_states", 1), ("sample_every", 0)):
            if getattr(self, name) < least:
                raise TrainingError(f"{name} is {getattr(self, name)}, expected {least} or more.")


@dataclass(frozen=True)
class TrainingModels:
    """The models of a training; they come out of it as they went in.

    Raises:
        TrainingError: one is missing, or no gradients pass the model.
    """

    model: Any
    clip: Any
    vae: Any

    def __post_init__(self) -> None:
        for name, loader in (("clip", "DualCLIPLoader, type flux"), ("vae", "Load VAE (ae.safetensors)")):
            if getattr(self, name) is None:
                raise TrainingError(f"{name} is empty: the loader before it brought none. Use {loader}.")
        check_trainable(self.model)

    @property
    def encoders(self) -> Encoders:
        return Encoders(self.clip, self.vae, self.model.model.get_dtype_inference())

    def identities(self) -> list[str]:
        return [model_identity(patcher) for patcher in (self.model, self.clip.patcher, self.vae.patcher)]


@dataclass(frozen=True)
class TrainingResult:
    """The file's name among the loras, a picture `1 h w 3` of what happened, and a report.

    Attributes:
        shared: the file's path below the host's output folder; None where it could not be put there.
    """

    lora_name: str
    picture: Tensor
    report: str
    shared: PurePosixPath | None


@dataclass(eq=False)
class Training:
    """One training, from the pairs to the file. The same call goes on where an earlier one stopped."""

    models: TrainingModels
    pairs: EditPairs
    name: AdapterName
    settings: TrainingSettings
    options: RunOptions
    _notes: list[str] = field(default_factory=list)

    def run(self) -> TrainingResult:
        """Train, and write the file.

        Raises:
            TrainingError: something is wrong with the inputs, or happened while training; what was saved is kept.
        """
        self.name.check_free()
        start = start_path(self.options.start_from)
        if start is not None and self.name.file.exists() and start.samefile(self.name.file):
            raise TrainingError(f"name and start_from are both {self.name.lora_name}. Choose another name.")
        identities = self.models.identities()
        with torch.inference_mode(False):
            states = StateFolder(self.name.states(self._fingerprint(identities, start)), self.options.keep_states)
            state = self._begun(states, start)
            first, begun = state.step, time.monotonic()
            samples = self._learn(state, states)
            card = {"pairs": len(self.pairs), "held_out": len(self.pairs.held_out), "base": identities[0][:16]}
            with state.as_it_comes_out():
                write_adapter_file(self.name.file, state.adapter, self.settings, card)
        shared = self._shared()
        sheet = training_sheet(state.losses, self.settings.steps, samples)
        return TrainingResult(self.name.lora_name, sheet, self._report(state, first, time.monotonic() - begun), shared)

    def _shared(self) -> PurePosixPath | None:
        try:
            return self.name.share()
        except OSError as error:
            self._notes.append(
                "The file is in models/loras, but could not be put into the output folder too, from where programs on "
                f"other machines fetch it: {error.strerror or error}."
            )
            return None

    def _fingerprint(self, identities: list[str], start: Path | None) -> str:
        """The same for two runs that learn the same: what one saved, the other can go on from."""
        settings = self.settings.as_dict()
        if self.settings.schedule == CONSTANT:
            # Then more steps only go further.
            del settings["steps"]
        parts = [json.dumps(settings, sort_keys=True), self.pairs.fingerprint, *identities]
        parts += [] if start is None else [files.fingerprint(start)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    def _begun(self, states: StateFolder, start: Path | None) -> LearningState:
        """The state to go on from: the last one saved, the file to start from, or nothing."""
        adapter = new_adapter(self.models.model, self.settings)
        tensors = {} if start is None else start_tensors(start)
        self._notes += start_from(adapter, tensors, self.settings) if tensors else []
        adapter.to(self.models.model.load_device)
        state = LearningState.before_the_first_step(adapter, self.settings)
        if states.load_last(state):
            if state.step > self.settings.steps:
                raise TrainingError(
                    f"steps is {self.settings.steps}, but this training has {state.step} behind it. Set steps to more, "
                    "or choose another name."
                )
            self._notes.append(f"Went on from the state after step {state.step}.")
        return state

    def _learn(self, state: LearningState, states: StateFolder) -> list[EditSample]:
        adapter, options = state.adapter, self.options
        needs = memory_needs(self.models.model, adapter, self.pairs, self.settings, options.checkpointing)
        self._notes.append(needs.line)
        log.info("%s", needs.line)
        data = EncodedPairs(self.pairs, self.models.encoders, encoded_folder())
        looked_at = self.pairs.held_out[:MOST] if options.sample_every else ()
        todo = data.missing((*self.pairs.pairs, *looked_at))
        progress = TrainingProgress(len(todo) + self.settings.steps - state.step)
        encode_all(todo, progress.step)
        learning = Learning(
            self.models.model, self.models.vae, adapter, data, self.settings, progress, options.checkpointing,
            options.sample_every, needs.beside_model,
        )  # fmt: skip
        with out_of_memory_explained(state):
            fit(state, learning.gradients, self.settings, states, Occasions(options.save_every, learning.step_done))
        with state.as_it_comes_out():
            bits = learning.task_bits()
        if bits is not None:
            self._notes.append(bits.line())
        return learning.samples

    def _report(self, state: LearningState, first: int, spent: float) -> str:
        done = state.step - first
        lines = [
            f"{self.name.lora_name}: {self.settings.adapter} adapter, {state.step} steps, {len(self.pairs)} pairs.",
            f"{spent:.0f} s for {done} steps" + (f", {spent / done:.2f} s each, encoding included." if done else "."),
            *self._notes,
        ]
        return "\n".join(lines)
