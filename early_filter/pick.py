"""Probes the candidates of one picture for a user to choose among, and finishes the one that was picked. Nothing that
was kept of an earlier run is done again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor

from .kept import KeptCandidate, KeptPicture
from .outcome import Finished
from .plan import Plan
from .run import PictureSampler
from .stopwatch import Stopwatch
from .stored_preview import Preview


@dataclass(frozen=True)
class PickedPicture:
    """What one run did for one picture.

    Attributes:
        pick: the seed that the user picked, None where none was.
        finished: its end, None while one of the pictures of a batch has no pick.
        shown: the candidates that the user sees, in order.
        kept_steps: how many steps of the finished one an earlier run had kept; all of them where it was finished then.
        evaluations: of the model in this run, by seed.
        work: what they took, in evaluations in full.
        seconds: spent in "sampling" and "decoding".
    """

    plan: Plan
    pick: int | None
    finished: Finished[Tensor] | None
    shown: dict[int, KeptCandidate]
    kept_steps: int
    evaluations: dict[int, int]
    work: float
    seconds: dict[str, float]


class PickFilter:
    """One run for one picture.

    Args:
        seeds: to show, the pick among them; those of which nothing is kept are probed.
        pick: what the user picked, if anything.
        finish: whether to finish the pick.
    """

    def __init__(
        self,
        plan: Plan,
        sampler: PictureSampler[Tensor],
        kept: KeptPicture,
        seeds: Sequence[int],
        pick: int | None = None,
        finish: bool = False,
    ) -> None:
        self.plan, self.sampler, self.kept, self.seeds, self.pick = plan, sampler, kept, tuple(seeds), pick
        self._to_finish = pick if finish else None
        self._evaluations: dict[int, int] = {}
        self._clock = Stopwatch("sampling", "decoding")

    @property
    def _unseen(self) -> list[int]:
        found = {seed: self.kept.candidates.get(seed) for seed in self.seeds}
        return [
            seed
            for seed, candidate in found.items()
            if candidate is None or (candidate.step < self.plan.probe_steps and candidate.finished is None)
        ]

    @property
    def steps(self) -> int:
        """Sampling steps of this run; those of a candidate that is probed farther than before are counted in full."""
        probing = len(self._unseen) * self.plan.probe_steps
        if self._to_finish is None or self._kept_steps == self.plan.steps:
            return probing
        done = max(self._kept_steps, self.plan.probe_steps) if self.plan.mode == "resume" else 0
        return probing + self.plan.steps - done

    @property
    def _kept_steps(self) -> int:
        candidate = None if self._to_finish is None else self.kept.candidates.get(self._to_finish)
        if candidate is None:
            return 0
        if candidate.finished is not None:
            return self.plan.steps
        return candidate.step if self.plan.mode == "resume" else 0

    def run(self) -> PickedPicture:
        """Probe what is not kept, then finish the pick; to be called once."""
        kept_steps = self._kept_steps
        self._probe(self._unseen)
        finished = None if self._to_finish is None else self._finish(self._to_finish)
        shown = {seed: self.kept.candidates[seed] for seed in self.seeds}
        work = sum(self._evaluations.values()) if self.sampler.work is None else self.sampler.work
        return PickedPicture(
            self.plan, self.pick, finished, shown, kept_steps, self._evaluations, work, self._clock.seconds
        )

    def _probe(self, seeds: Sequence[int]) -> None:
        for seed in seeds:
            with self._clock("sampling"), self._whole(seed):
                self._count(seed, self.sampler.probe(seed, self.plan.probe_steps))
        with self._clock("decoding"):
            previews = self.sampler.previews(seeds) if seeds else []
        for preview in previews:
            assert isinstance(preview, Preview)
            self.kept.keep(preview.seed, KeptCandidate(self.plan.probe_steps, preview))

    def _finish(self, seed: int) -> Finished[Tensor]:
        candidate = self.kept.candidates[seed]
        if candidate.finished is None:
            with self._clock("sampling"):
                finished = self.sampler.finish(seed)
            self._count(seed, finished.evaluations)
            candidate = replace(candidate, finished=finished)
            self.kept.drop_recording(seed)
        self.kept.keep(seed, candidate)
        assert candidate.finished is not None
        return candidate.finished

    def _count(self, seed: int, evaluations: int) -> None:
        self._evaluations[seed] = self._evaluations.get(seed, 0) + evaluations

    @contextmanager
    def _whole(self, seed: int) -> Iterator[None]:
        """A probe that ends before its last step, by the user or an error, leaves nothing behind."""
        try:
            yield
        except BaseException:
            self.kept.drop(seed)
            raise
