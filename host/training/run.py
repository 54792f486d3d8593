"""A whole training: checks, encoding, steps, the file."""

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ...training.adapter import TrainedAdapter
from ...training.curve import loss_curve
from ...training.errors import TrainingError
from ...training.export import write_adapter_file
from ...training.fit import Occasions, fit
from ...training.optimizers import new_optimizer
from ...training.pairs.pair import EditPairs
from ...training.settings import CONSTANT, TrainingSettings
from ...training.states import LearningState, StateFolder
from .batches import StepGradients
from .encode import EncodedPairs, Encoders, encode_all
from .fill_model import FillVelocity, check_trainable, new_adapter
from .folders import AdapterName, encoded_folder
from .identity import model_identity

NO_FILE = "None"


@dataclass(frozen=True)
class RunOptions:
    """What does not change what is learned."""

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


@dataclass(frozen=True)
class TrainingResult:
    """The file's name among the loras, a picture `1 h w 3` of what happened, and a report."""

    lora_name: str
    picture: Tensor
    report: str


@dataclass(eq=False)
class Training:
    """One training, from the pairs to the file. The same call goes on where an earlier one stopped."""

    models: TrainingModels
    pairs: EditPairs
    name: AdapterName
    settings: TrainingSettings
    options: RunOptions

    def run(self) -> TrainingResult:
        self.name.check_free()
        with torch.inference_mode(False):
            adapter = new_adapter(self.models.model, self.settings).to(self.models.model.load_device)
            state = LearningState(adapter, new_optimizer(adapter.parameters(), self.settings))
            states = StateFolder(self.name.states(self.fingerprint()), self.options.keep_states)
            states.load_last(state)
            first, begun = state.step, time.monotonic()
            data = EncodedPairs(self.pairs, self.models.encoders, encoded_folder())
            todo = data.missing(self.pairs.pairs)
            bar = comfy.utils.ProgressBar(len(todo) + self.settings.steps - first)
            encode_all(todo, lambda: bar.update(1))
            encoded = time.monotonic()
            self._fit(state, states, data, bar)
            spent = (encoded - begun, time.monotonic() - encoded)
            write_adapter_file(self.name.file, adapter, self.settings, self._card())
        picture = loss_curve(state.losses, self.settings.steps)[None]
        return TrainingResult(self.name.lora_name, picture, self._report(state, first, spent))

    def fingerprint(self) -> str:
        """The same for two runs that learn the same: what one saved, the other can go on from."""
        settings = self.settings.as_dict()
        if self.settings.schedule == CONSTANT:
            # Then more steps only go further.
            del settings["steps"]
        parts = [json.dumps(settings, sort_keys=True), self.pairs.fingerprint]
        parts += [model_identity(patcher) for patcher in self._patchers()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    def _patchers(self) -> tuple[Any, ...]:
        return self.models.model, self.models.clip.patcher, self.models.vae.patcher

    def _fit(self, state: LearningState, states: StateFolder, data: EncodedPairs, bar: Any) -> None:
        assert isinstance(state.adapter, TrainedAdapter)
        model = self.models.model.clone()
        velocity = FillVelocity(model, state.adapter, self.options.checkpointing)
        gradients = StepGradients(model, velocity, state.adapter, data, self.settings)
        comfy.model_management.load_models_gpu([model])
        model.pre_run()
        try:
            occasions = Occasions(self.options.save_every, lambda _: bar.update(1))
            fit(state, gradients, self.settings, states, occasions)
        finally:
            model.cleanup()

    def _card(self) -> dict[str, Any]:
        return {
            "pairs": len(self.pairs),
            "held_out": len(self.pairs.held_out),
            "base": model_identity(self.models.model)[:16],
        }

    def _report(self, state: LearningState, first: int, spent: tuple[float, float]) -> str:
        done = state.step - first
        speed = f"{spent[1] / done:.2f} s a step" if done else "nothing was left to train"
        return "\n".join(
            (
                f"{self.name.lora_name}: {self.settings.adapter} adapter, {state.step} steps, {len(self.pairs)} pairs.",
                f"{spent[0]:.0f} s to encode what was not on disk, {spent[1]:.0f} s for {done} steps ({speed}).",
            )
        )
