"""The Early Filter on the host: every picture of a latent gets its own filter and its own winner."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ..early_filter.judge import Edit, Judge, Question
from ..early_filter.plan import Plan
from ..early_filter.previews import STORED, Panel, Preview, left_half, right_half
from ..early_filter.run import Outcome, Work, run
from ..early_filter.select import Failure
from . import previews
from .sampling import Process, Progress, Start, as_output, row, starts
from .tape import INTERRUPTS, Runs, poll, refuse_caches

log = logging.getLogger(__name__)

EVERYTHING = 0.999
"""A region whose mask is nowhere below this is no region."""


@dataclass(frozen=True)
class Filter:
    """What the user set, besides what a sampler needs.

    Attributes:
        short: the short process of mode "paper", None in mode "resume".
        judges: in the order in which they are asked.
        source: the pictures to compare with, `b h w 3`; None takes the left half of the latent.
    """

    plan: Plan
    process: Process
    short: Process | None
    vae: Any
    instruction: str
    panel: Panel
    judges: tuple[Judge, ...]
    stop_early: bool = False
    source: Tensor | None = None


def filter_latent(settings: Filter, latent: Mapping[str, Any]) -> tuple[dict[str, Any], list[Outcome[Tensor]]]:
    """Filter seeds for each picture of a LATENT; the LATENT of all winners, and how each picture's winner was found.

    Raises:
        ValueError: settings and latent do not fit together; nothing has been sampled then.
    """
    pictures = starts(settings.process.model, latent)
    _check(settings, pictures)
    most = settings.plan.most_steps
    progress = Progress(settings.process.model, most * len(pictures))
    outcomes = []
    for index, start in enumerate(pictures):
        begun = time.perf_counter()
        question = _question(settings, start, index)
        preparing = time.perf_counter() - begun
        later = most * (len(pictures) - index - 1)
        outcome = _Picture(settings, start, index, len(pictures), progress, later).run(question)
        decoding = outcome.seconds["decoding"] + preparing
        outcomes.append(replace(outcome, seconds=outcome.seconds | {"decoding": decoding}))
    samples = torch.cat([outcome.result for outcome in outcomes])
    return as_output(latent, samples), outcomes


def _check(settings: Filter, pictures: Sequence[Start]) -> None:
    if settings.plan.mode == "resume":
        refuse_caches(settings.process)
    _check_instruction(settings)
    if settings.source is not None:
        return
    if settings.panel == "whole picture":
        raise ValueError(
            "panel is 'whole picture', and the judge compares with the picture before the edit: connect that "
            "picture to source. (With an ICEdit diptych set panel to 'right half'.)"
        )
    if any(torch.count_nonzero(start.samples) == 0 for start in pictures):
        raise ValueError(
            "latent_image is empty, so its left half holds no picture to compare with. Use the latent of "
            "ICEFConditioning, or connect the picture before the edit to source."
        )


def _check_instruction(settings: Filter) -> None:
    readers = [judge.name for judge in settings.judges if judge.reads_instruction]
    if readers and not settings.instruction.strip():
        raise ValueError(
            f"instruction is empty, and the judge ({readers[0]}) chooses by it. Connect the output instruction of Edit "
            "Instruction, or write what should change; the judge Pixels needs none."
        )


def _question(settings: Filter, start: Start, index: int) -> Question:
    """The source and region of one picture at the size of its previews."""
    diptych = settings.panel == "right half"
    height, width = previews.decoded_size(settings.vae, start.samples)
    if settings.source is not None:
        # A diptych's panels are the source stretched to whole tokens; other models' pictures are cropped to them.
        size, crop = ((height, width // 2), "disabled") if diptych else ((height, width), "center")
        source = previews.fitted(row(settings.source, index)[0], *size, crop)
    else:
        (whole,) = previews.decode(settings.vae, [start.samples], torch.float32)
        source = left_half(whole)
    region = previews.region(start.noise_mask, height, width)
    if region is not None:
        region = right_half(region) if diptych else region
        region = None if float(region.amin()) > EVERYTHING else region
    return Question(source, settings.instruction, region)


class _Picture:
    """One picture's filter."""

    def __init__(self, settings: Filter, start: Start, index: int, batch: int, progress: Progress, later: int) -> None:
        self._settings, self._progress, self._later = settings, progress, later
        self._runs = Runs(settings.process, start, index, batch, progress)
        self._short = settings.short and Runs(settings.short, start, index, batch, progress)
        self._latents: dict[int, Tensor] = {}

    def run(self, question: Question) -> Outcome[Tensor]:
        work = Work(
            probe=self._probe,
            show=self._show,
            finish=self._runs.finish,
            forget=self._forget,
            expect=lambda steps: self._progress.expect(steps + self._later),
            failed=_failed,
            poll=poll,
            interrupts=INTERRUPTS,
        )
        settings = self._settings
        return run(settings.plan, work, settings.judges, question, settings.stop_early)

    def _probe(self, seed: int, step: int) -> int:
        if self._short:
            self._latents[seed], evaluations = self._short.finish(seed)
        else:
            evaluations = self._runs.probe(seed, step)
            self._latents[seed] = self._runs.preview(seed)
        return evaluations

    def _show(self, seeds: Sequence[int]) -> list[Edit]:
        poll()
        pictures = previews.decode(self._settings.vae, [self._latents[seed] for seed in seeds], STORED)
        return [Preview(seed, picture, self._settings.panel) for seed, picture in zip(seeds, pictures, strict=True)]

    def _forget(self, seed: int) -> None:
        self._runs.forget(seed)
        self._latents.pop(seed, None)


def _failed(failure: Failure) -> None:
    log.warning("The judge %s could not %s seeds %s: %s", failure.judge, failure.asked, failure.seeds, failure.error)
    # It may have failed for want of memory, and sampling goes on.
    comfy.model_management.soft_empty_cache()
