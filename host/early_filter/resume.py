"""A sampler that can stop after some steps and go on later, without evaluating the model twice for the same input.

It records the model's outputs. Going on runs the host's sampler again from its first step with the same noise and
replays the recorded outputs, so the result is bit for bit that of one run. Splitting the schedule instead would not be:
samplers keep a history, and a noise mask needs the first noise.

That holds while the model computes as before. It need not: a judge takes memory, and the host merges and rounds a LoRA
into weights that are loaded fully, but applies it per call to those that are offloaded. So before a seed is finished
the last evaluation of every recorded probe is repeated, and its bits are compared.

A node on the model may compute some evaluations in full and build others on them. Then it is the last full one that is
repeated, also where a probe goes on: what the next ones build on comes from there.
"""

import copy
import logging
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ...early_filter.budget import Budget
from ...early_filter.outcome import Finished
from ..conditioning_rows import conditioning_rows
from ..interrupts import poll
from ..model_cost import COST_KEY, ModelCost, extent
from ..sampling import LatentRow, Process, run_guider
from ..step_caches import step_cache
from .recording import Recorded, Recording, bits, fingerprint

log = logging.getLogger(__name__)

EARLY_FILTER_KEY = "icedit_early_filter"


class _Stopped(BaseException):
    """Ends a sampler where enough is known. Not an Exception: samplers may catch those."""


class _Changed(BaseException):
    """Ends a sampler whose model no longer gives a recorded output."""


@dataclass(frozen=True)
class Probed:
    """A seed's predicted latent after some steps, `1 c h w` for the VAE, and the model evaluations this took."""

    result: Tensor
    evaluations: int


class ResumableSampler:
    """Samples one row of a latent: a seed is probed as far as some step, later farther, and finished or forgotten.

    `afresh`: a seed is finished from its first step where the model no longer computes as while probing. `recordings`
    of an earlier run, by seed, are gone on from and added to.
    """

    def __init__(
        self,
        process: Process,
        row: LatentRow,
        budget: Budget,
        afresh: bool = True,
        recordings: dict[int, Recording] | None = None,
    ) -> None:
        self._process, self._row, self._budget, self._afresh = process, row, budget, afresh
        self.work = 0.0
        """What all evaluations took so far, in evaluations in full."""
        self._conds = conditioning_rows(process.guider.original_conds, row.index, row.batch)
        self._recordings: dict[int, Recording] = {} if recordings is None else recordings

    def probe(self, seed: int, step: int) -> Probed:
        """Run as far as `step`."""
        recording = self._recordings.setdefault(seed, Recording())
        replay = _Replay(recording, record=True, checked=recording.built_on)
        try:
            self._sample(seed, replay, stop=step)
        except _Stopped:
            recording.ends.add(recording.last_computed_in_full)
            assert recording.x0 is not None
            return Probed(self._process.model.model.process_latent_out(recording.x0), replay.evaluations)
        raise ValueError(
            f"The sampler ended before step {step} of its {self._process.steps} steps, so it cannot be filtered. "
            "Choose another sampler; ICEdit is used with euler."
        )

    def finish(self, seed: int) -> Finished[Tensor]:
        """Run to the end; the samples are what the host's node would return."""
        recording = self._recordings.get(seed, Recording())
        finished = self._all_recorded(seed, recording)
        if finished is not None:
            return finished
        replay = _Replay(recording, checked=recording.ends | recording.built_on, stop_when_changed=self._afresh)
        try:
            samples = self._sample(seed, replay)
        except _Changed:
            self._budget.repeat(recording.steps)
            again = _Replay(Recording())
            samples = self._process.cast(self._sample(seed, again))
            spent = replay.evaluations + again.evaluations
            return Finished(samples, spent, again.asked, replay.checks, changed=True, afresh=True)
        return Finished(self._process.cast(samples), replay.evaluations, replay.asked, replay.checks, replay.changed)

    def _all_recorded(self, seed: int, recording: Recording) -> Finished[Tensor] | None:
        """The end of a seed that a single probe took to its last step: whatever became of the model since, one state of
        it computed everything. None for other seeds, or where the sampler wants more evaluations after its last step.
        """
        if recording.steps < self._process.steps or len(recording.ends) != 1:
            return None
        replay = _Replay(recording, stop_at_end=True)
        try:
            return Finished(self._process.cast(self._sample(seed, replay)), 0, replay.asked)
        except _Stopped:
            return None

    def forget(self, seed: int) -> None:
        """Free what is recorded of a seed."""
        self._recordings.pop(seed, None)

    def _sample(self, seed: int, replay: "_Replay", stop: int | None = None) -> Tensor:
        process, row, recording = self._process, self._row, replay.recording

        def after_step(step: int, x0: Tensor, x: Tensor, total: int) -> None:  # noqa: ARG001
            if step >= recording.steps:
                self._budget.step(x0, x)
            if stop is not None and step + 1 >= stop:
                recording.steps, recording.x0 = stop, x0.to("cpu", copy=True)
                raise _Stopped

        cost = ModelCost()
        try:
            return run_guider(
                self._guider(replay, cost),
                row.noise(seed),
                row.samples,
                process.sampler,
                process.sigmas,
                denoise_mask=row.noise_mask,
                callback=after_step,
                disable_pbar=True,
                seed=seed,
            )
        finally:
            self.work += cost.work if cost.told else replay.evaluations
            replay.asked += cost.left_out

    def _guider(self, replay: "_Replay", cost: ModelCost) -> Any:
        guider = copy.copy(self._process.guider)
        guider.original_conds = self._conds
        guider.model_options = comfy.model_patcher.create_model_options_clone(guider.model_options)
        guider.model_options["transformer_options"][COST_KEY] = cost
        add_wrapper_with_key(
            WrappersMP.CALC_COND_BATCH, EARLY_FILTER_KEY, replay.evaluate, guider.model_options, is_model_options=True
        )
        return guider


class _Replay:
    """Gives the sampler the recorded outputs and, after the last one, the model's; at the checked positions it compares
    the two.

    `asked` counts what the sampler evaluated, `evaluations` what the model computed for it, `checks` those of them that
    were recorded before.
    """

    def __init__(
        self,
        recording: Recording,
        record: bool = False,
        checked: Set[int] = frozenset(),
        stop_when_changed: bool = False,
        stop_at_end: bool = False,
    ) -> None:
        self.recording, self.asked, self.evaluations, self.checks, self.changed = recording, 0, 0, 0, False
        self._record, self._checked = record, checked
        self._stop_when_changed, self._stop_at_end = stop_when_changed, stop_at_end

    def evaluate(self, executor: Any, *args: Any) -> list[Tensor | None]:
        """In place of the host's evaluation of all prompts, which `executor` is."""
        poll()
        _, conds, x, timestep, model_options = args
        given, position = fingerprint(x, timestep), self.asked
        self.asked += 1
        if position < len(self.recording.outputs):
            recorded = self.recording.outputs[position]
            if recorded.input == given:
                if position in self._checked:
                    self._check(recorded.outputs, executor(*args))
                return [torch.zeros_like(x) if out is None else out.to(x.device, copy=True) for out in recorded.outputs]
            log.warning("The sampler does not repeat itself with the same seed; evaluating again instead of resuming.")
            self.recording.cut(position)
        if self._stop_at_end:
            raise _Stopped
        outputs = executor(*args)
        self.evaluations += 1
        if self._record:
            # The host returns zeros where it was given no conditioning; they need no room.
            kept = [
                None if cond is None else output.to("cpu", copy=True)
                for cond, output in zip(conds, outputs, strict=True)
            ]
            self.recording.outputs.append(Recorded(given, kept, extent(model_options)))
        return outputs

    def _check(self, recorded: Sequence[Tensor | None], computed: Sequence[Tensor]) -> None:
        """Compare bits. The model computes its output in its place among the others, so what keeps a state goes on
        from there."""
        self.evaluations += 1
        self.checks += 1
        pairs = zip(recorded, computed, strict=True)
        if all(old is None or torch.equal(bits(old), bits(new.to("cpu"))) for old, new in pairs):
            return
        self.changed = True
        if self._stop_when_changed:
            raise _Changed


def refuse_caches(process: Process) -> None:
    """Step caches count the model's own calls, of which a replay leaves out the first: they would go on with the state
    of another seed, or with none.

    Repeating one evaluation does not show it. A cache that was to compute that step gives the same bits, and its
    decisions about the steps after it depend on more than this one.

    Raises:
        ValueError: when the model carries one.
    """
    if cache := step_cache(process.model, process.guider.model_options):
        raise ValueError(
            f"The model carries {cache}, which keeps a state of its own while sampling, so no run can be resumed. "
            "Remove the node that put it there, use LazyCache, or set mode to 'paper'."
        )
