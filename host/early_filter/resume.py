"""Runs of a seed that can be left after some steps and gone on with later, without doing any evaluation twice.

The tape holds the model's outputs. Going on runs the sampler again from its first step with the same noise and answers
the evaluations of before from the tape, so the result is bit for bit that of one run. Splitting the schedule instead
would not be: samplers keep a history, and a noise mask needs the first noise.

That holds while the model computes as before. It need not: a judge takes memory, and the host merges and rounds a LoRA
into weights that are loaded fully, but applies it per call to those that are offloaded. So whoever finishes a seed asks
the model once more for the last evaluation of every part that was recorded, and compares bits.
"""

import copy
import logging
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ...early_filter.run import Finished
from ..conditioning_rows import conditioning_rows
from ..interrupts import poll
from ..sampling import Process, Progress, Start, run_guider
from ..step_caches import step_cache

log = logging.getLogger(__name__)

EARLY_FILTER_KEY = "icedit_early_filter"

Fingerprint = tuple[int, tuple[float, ...]]


class _Left(BaseException):
    """Ends a sampler where enough is known. Not an Exception: samplers may catch those."""


class _Changed(BaseException):
    """Ends a sampler whose model does not answer as it did before."""


@dataclass
class Tape:
    """The model's outputs for one seed, each with the input that it answers, and the steps and preview they led to.

    `parts` are the positions of the last output of each run that recorded: the model was loaded once for each run.
    """

    outputs: list[tuple[Fingerprint, list[Tensor | None]]] = field(default_factory=list)
    parts: set[int] = field(default_factory=set)
    steps: int = 0
    x0: Tensor | None = None

    def cut(self, position: int) -> None:
        """Drop the outputs from this position on."""
        del self.outputs[position:]
        self.parts = {min(part, position - 1) for part in self.parts if position}


class Runs:
    """All runs of one picture; a seed is probed as far as some step, later farther, and finished or forgotten.

    `afresh`: a seed is finished from its first step where the model no longer answers as while probing.
    """

    def __init__(
        self, process: Process, start: Start, index: int, batch: int, progress: Progress, afresh: bool = True
    ) -> None:
        self._process, self._start, self._progress, self._afresh = process, start, progress, afresh
        self._conds = conditioning_rows(process.guider.original_conds, index, batch)
        self._tapes: dict[int, Tape] = {}

    def probe(self, seed: int, step: int) -> int:
        """Run as far as `step`, whose prediction becomes the preview; answers the evaluations done now."""
        tape = self._tapes.setdefault(seed, Tape())
        deck = _Deck(tape, record=True)
        try:
            self._sample(seed, deck, stop=step)
        except _Left:
            tape.parts.add(len(tape.outputs) - 1)
            return deck.evaluations
        raise ValueError(
            f"The sampler ended before step {step} of its {self._process.steps} steps, so it cannot be filtered. "
            "Choose another sampler; ICEdit is used with euler."
        )

    def preview(self, seed: int) -> Tensor:
        """The picture's latent as predicted at the last probed step, `1 c h w`, for the VAE."""
        x0 = self._tapes[seed].x0
        assert x0 is not None
        return self._process.model.model.process_latent_out(x0)

    def finish(self, seed: int) -> Finished[Tensor]:
        """Run to the end; the samples are what the host's node would answer."""
        tape = self._tapes.get(seed, Tape())
        found = self._of_one_part(seed, tape)
        if found is not None:
            return found
        deck = _Deck(tape, record=False, checked=tape.parts, leave_when_changed=self._afresh)
        try:
            samples = self._sample(seed, deck, stop=None)
        except _Changed:
            self._progress.expect_more(tape.steps)
            again = _Deck(Tape(), record=False)
            samples = self._process.cast(self._sample(seed, again, stop=None))
            spent = deck.evaluations + again.evaluations
            return Finished(samples, spent, again.asked, deck.checks, changed=True, afresh=True)
        return Finished(self._process.cast(samples), deck.evaluations, deck.asked, deck.checks, deck.changed)

    def _of_one_part(self, seed: int, tape: Tape) -> Finished[Tensor] | None:
        """The end of a seed that one run has probed as far as its last step: whatever became of the model, it is not
        mixed. None where it was not, or where the sampler wants to know more after its last step."""
        if tape.steps < self._process.steps or len(tape.parts) != 1:
            return None
        deck = _Deck(tape, record=False, leave_at_end=True)
        try:
            return Finished(self._process.cast(self._sample(seed, deck, stop=None)), 0, deck.asked)
        except _Left:
            return None

    def forget(self, seed: int) -> None:
        self._tapes.pop(seed, None)

    def _sample(self, seed: int, deck: "_Deck", stop: int | None) -> Tensor:
        process, start, tape = self._process, self._start, deck.tape

        def after_step(step: int, x0: Tensor, x: Tensor, total: int) -> None:  # noqa: ARG001
            if step >= tape.steps:
                self._progress.step(x0, x)
            if stop is not None and step + 1 >= stop:
                tape.steps, tape.x0 = stop, x0.to("cpu", copy=True)
                raise _Left

        return run_guider(
            self._guider(deck),
            start.noise(seed),
            start.samples,
            process.sampler,
            process.sigmas,
            denoise_mask=start.noise_mask,
            callback=after_step,
            disable_pbar=True,
            seed=seed,
        )

    def _guider(self, deck: "_Deck") -> Any:
        guider = copy.copy(self._process.guider)
        guider.original_conds = self._conds
        guider.model_options = comfy.model_patcher.create_model_options_clone(guider.model_options)
        add_wrapper_with_key(
            WrappersMP.CALC_COND_BATCH, EARLY_FILTER_KEY, deck.answer, guider.model_options, is_model_options=True
        )
        return guider


class _Deck:
    """Plays a tape to the sampler and, past its end, asks the model; at the checked positions it does both.

    `asked` counts what the sampler wanted to know, `evaluations` what the model was asked, `checks` those of them that
    the tape knew.
    """

    def __init__(
        self,
        tape: Tape,
        record: bool,
        checked: Set[int] = frozenset(),
        leave_when_changed: bool = False,
        leave_at_end: bool = False,
    ) -> None:
        self.tape, self.asked, self.evaluations, self.checks, self.changed = tape, 0, 0, 0, False
        self._record, self._checked = record, checked
        self._leave_when_changed, self._leave_at_end = leave_when_changed, leave_at_end

    def answer(self, executor: Any, *args: Any) -> list[Tensor | None]:
        poll()
        _, conds, x, timestep, *_ = args
        fingerprint, position = _fingerprint(x, timestep), self.asked
        self.asked += 1
        if position < len(self.tape.outputs):
            asked, outputs = self.tape.outputs[position]
            if asked == fingerprint:
                if position in self._checked:
                    self._check(outputs, executor(*args))
                return [torch.zeros_like(x) if output is None else output.to(x.device, copy=True) for output in outputs]
            log.warning("The sampler does not repeat itself with the same seed; evaluating again instead of resuming.")
            self.tape.cut(position)
        if self._leave_at_end:
            raise _Left
        outputs = executor(*args)
        self.evaluations += 1
        if self._record:
            # The host answers zeros where it was given no conditioning; they need no room.
            kept = [
                None if cond is None else output.to("cpu", copy=True)
                for cond, output in zip(conds, outputs, strict=True)
            ]
            self.tape.outputs.append((fingerprint, kept))
        return outputs

    def _check(self, known: Sequence[Tensor | None], found: Sequence[Tensor]) -> None:
        """The answer stands in its place among the others, so what keeps a state goes on from there."""
        self.evaluations += 1
        self.checks += 1
        pairs = zip(known, found, strict=True)
        if all(old is None or torch.equal(_bits(old), _bits(new.to("cpu"))) for old, new in pairs):
            return
        self.changed = True
        if self._leave_when_changed:
            raise _Changed


def _bits(tensor: Tensor) -> Tensor:
    """As integers, of which NaN is one like the others."""
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def _fingerprint(x: Tensor, timestep: Tensor) -> Fingerprint:
    """Equal for equal bits."""
    return int(_bits(x).sum(dtype=torch.int64)), tuple(timestep.flatten().tolist())


def refuse_caches(process: Process) -> None:
    """Step caches count the model's own calls, of which a tape leaves out the first: they would go on with the state
    of another seed, or with none.

    Asking for one evaluation again does not show it. A cache that was to compute that step gives the same bits, and its
    decisions about the steps after it depend on more than this one.

    Raises:
        ValueError: when the model carries one.
    """
    if cache := step_cache(process.model, process.guider.model_options):
        raise ValueError(
            f"The model carries {cache}, which keeps a state of its own while sampling, so no run can be resumed. "
            "Remove the node that put it there, use LazyCache, or set mode to 'paper'."
        )
