"""Samples and shows one picture: each of its rows, of which a panorama's tiles are several, with the same seed."""

import logging
from collections.abc import Sequence
from typing import Protocol

import comfy.model_management
import torch
from torch import Tensor

from ...early_filter.budget import Budget
from ...early_filter.judge import Candidate
from ...early_filter.outcome import Finished
from ...early_filter.run import PictureSampler
from ...early_filter.select import Failure
from ..interrupts import INTERRUPTS, poll
from ..sampling import LatentRow, Process
from .panels import Panels
from .recording import Recording
from .resume import ResumableSampler

log = logging.getLogger(__name__)


class SamplerSetting(Protocol):
    """What a sampler needs of the user's settings.

    Attributes:
        process: how a picture is finished.
        short: how candidates are sampled in mode "paper"; None in mode "resume".
        afresh: finish from the first step where the model no longer computes as while probing.
    """

    @property
    def process(self) -> Process: ...
    @property
    def short(self) -> Process | None: ...
    @property
    def afresh(self) -> bool: ...


class TiledSampler(PictureSampler[Tensor]):
    """One picture."""

    interrupts = INTERRUPTS

    def __init__(
        self,
        setting: SamplerSetting,
        rows: Sequence[LatentRow],
        budget: Budget,
        panels: Panels,
        recordings: Sequence[dict[int, Recording]] | None = None,
    ) -> None:
        """`recordings` of each row are gone on from and added to; None begins with none."""
        afresh = setting.afresh
        kept = recordings or [{} for _ in rows]
        self._panels = panels
        self._samplers = [
            ResumableSampler(setting.process, one, budget, afresh, recorded)
            for one, recorded in zip(rows, kept, strict=True)
        ]
        short = setting.short
        self._short = [ResumableSampler(short, one, budget, afresh) for one in rows] if short else []
        self._latents: dict[int, list[Tensor]] = {}

    @property
    def work(self) -> float:
        return sum(sampler.work for sampler in (*self._samplers, *self._short))

    def probe(self, seed: int, step: int) -> int:
        if self._short:
            probed = [sampler.finish(seed) for sampler in self._short]
        else:
            probed = [sampler.probe(seed, step) for sampler in self._samplers]
        self._latents[seed] = [one.result for one in probed]
        return sum(one.evaluations for one in probed)

    def previews(self, seeds: Sequence[int]) -> list[Candidate]:
        poll()
        return self._panels.previews({seed: self._latents[seed] for seed in seeds})

    def finish(self, seed: int) -> Finished[Tensor]:
        ends = [sampler.finish(seed) for sampler in self._samplers]
        return Finished(
            torch.cat([end.result for end in ends]),
            sum(end.evaluations for end in ends),
            sum(end.full_run for end in ends),
            sum(end.checks for end in ends),
            any(end.changed for end in ends),
            any(end.afresh for end in ends),
        )

    def forget(self, seed: int) -> None:
        for sampler in self._samplers:
            sampler.forget(seed)
        self._latents.pop(seed, None)

    def judgement_failed(self, failure: Failure) -> None:
        log.warning(
            "The judge %s could not %s seeds %s: %s", failure.judge, failure.asked, failure.seeds, failure.error
        )
        # It may have failed for want of memory, and sampling goes on.
        comfy.model_management.soft_empty_cache()

    def poll(self) -> None:
        poll()
