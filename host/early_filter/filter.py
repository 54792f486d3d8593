"""The Early Filter on the host: every picture of a latent gets its own filter and its own winner."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...early_filter.judge import Candidate, Judge, Question
from ...early_filter.plan import Plan
from ...early_filter.run import Finished, Outcome, Work, run
from ...early_filter.select import Failure
from ...early_filter.stored_preview import STORED, Panel, Preview, joined, left_half, right_half
from .. import tiles
from ..conditioning_rows import unused_pictures
from ..interrupts import INTERRUPTS, poll
from ..sampling import Process, Progress, Start, as_output, row, starts
from ..step_caches import unknown_wrapper
from . import previews
from .resume import Runs, refuse_caches

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
        afresh: run the winner from its first step where the model no longer answers as while probing.
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
    afresh: bool = True


def filter_latent(settings: Filter, latent: Mapping[str, Any]) -> tuple[dict[str, Any], list[Outcome[Tensor]]]:
    """Filter seeds for each picture of a LATENT; the LATENT of all winners, and how each picture's winner was found.

    Raises:
        ValueError: settings and latent do not fit together; nothing has been sampled then.
    """
    rows = starts(settings.process.model, latent)
    pictures = tiles.pictures(latent)
    _check(settings, rows, pictures)
    most = settings.plan.most_steps
    progress = Progress(settings.process.model, most * len(rows))
    outcomes = []
    for places in pictures:
        begun = time.perf_counter()
        question = _question(settings, rows, places)
        preparing = time.perf_counter() - begun
        later = most * (len(rows) - places.stop)
        outcome = _Picture(settings, rows, places, progress, later).run(question)
        decoding = outcome.seconds["decoding"] + preparing
        outcomes.append(replace(outcome, seconds=outcome.seconds | {"decoding": decoding}))
    samples = torch.cat([outcome.result for outcome in outcomes])
    return as_output(latent, samples), outcomes


def filter_cautions(settings: Filter, latent: Mapping[str, Any]) -> list[str]:
    """What users should know about their model and conditioning before they trust the winner."""
    found = []
    wrapper = unknown_wrapper(settings.process.model, settings.process.guider.model_options)
    if wrapper is not None and settings.plan.mode == "resume":
        found.append(
            f"The model carries a wrapper that is not ComfyUI's ({wrapper}). Resuming is right only if it keeps no "
            "state between steps. If it does, as step caches do, set mode to 'paper'."
        )
    if left := unused_pictures(settings.process.guider.original_conds, len(latent["samples"])):
        found.append(
            f"The conditioning holds the diptychs or pictures of {left + 1} edits, and latent_image one picture: the "
            "first is used, as KSampler does. Use the whole latent of the same Diptych Conditioning."
        )
    return found


def _check(settings: Filter, rows: Sequence[Start], pictures: Sequence[range]) -> None:
    if settings.plan.mode == "resume":
        refuse_caches(settings.process)
    _check_instruction(settings)
    if settings.source is not None:
        _check_source(len(settings.source), len(rows), len(pictures))
        return
    if settings.panel == "whole picture":
        raise ValueError(
            "panel is 'whole picture', and the judge compares with the picture before the edit: connect that "
            "picture to source. (With an ICEdit diptych set panel to 'right half'.)"
        )
    if any(torch.count_nonzero(start.samples) == 0 for start in rows):
        raise ValueError(
            "latent_image is empty, so its left half holds no picture to compare with. Use the latent of "
            "ICEFConditioning, or connect the picture before the edit to source."
        )


def _check_source(sources: int, rows: int, pictures: int) -> None:
    if sources == rows:
        return
    if pictures != rows:
        raise ValueError(
            f"source holds {sources} pictures, and latent_image {rows} tiles, each with its part of the picture in its "
            "left half. Leave source unconnected."
        )
    if sources != 1:
        raise ValueError(
            f"source holds {sources} pictures, and latent_image {rows}, so which belongs to which is not known. "
            "Connect one picture, or one for each; for right half leave source unconnected."
        )


def _check_instruction(settings: Filter) -> None:
    readers = [judge.name for judge in settings.judges if judge.reads_instruction]
    if readers and not settings.instruction.strip():
        raise ValueError(
            f"instruction is empty, and the judge ({readers[0]}) chooses by it. Connect the output instruction of Edit "
            "Instruction, or write what should change; the judge Pixels needs none."
        )


def _question(settings: Filter, rows: Sequence[Start], places: range) -> Question:
    """The source and region of one picture at the size of its previews; its tiles side by side."""
    source = joined([_source(settings, rows[place], place) for place in places], "whole picture")
    region = joined([_region(settings, rows[place]) for place in places], "whole picture")
    return Question(source, settings.instruction, None if float(region.amin()) > EVERYTHING else region)


def _source(settings: Filter, start: Start, place: int) -> Tensor:
    """The source `h w 3` of one row of the latent."""
    if settings.source is None:
        (whole,) = previews.decode(settings.vae, [start.samples], torch.float32)
        return left_half(whole)
    height, width = previews.decoded_size(settings.vae, start.samples)
    # A diptych's panels are the source stretched to whole tokens; other models' pictures are cropped to them.
    size, crop = ((height, width // 2), "disabled") if settings.panel == "right half" else ((height, width), "center")
    return previews.fitted(row(settings.source, place)[0], *size, crop)


def _region(settings: Filter, start: Start) -> Tensor:
    """Where one row of the latent may change, `h w`."""
    height, width = previews.decoded_size(settings.vae, start.samples)
    region = previews.region(start.noise_mask, height, width)
    region = torch.ones(height, width) if region is None else region
    return right_half(region) if settings.panel == "right half" else region


class _Picture:
    """One picture's filter. A seed is sampled for each of its rows, which are several for the tiles of a panorama."""

    def __init__(self, settings: Filter, rows: Sequence[Start], places: range, progress: Progress, later: int) -> None:
        def runs(process: Process) -> list[Runs]:
            return [Runs(process, rows[place], place, len(rows), progress, settings.afresh) for place in places]

        self._settings, self._progress, self._later = settings, progress, later
        self._runs = runs(settings.process)
        self._short = settings.short and runs(settings.short)
        self._latents: dict[int, list[Tensor]] = {}

    def run(self, question: Question) -> Outcome[Tensor]:
        work = Work(
            probe=self._probe,
            show=self._show,
            finish=self._finish,
            forget=self._forget,
            expect=lambda steps: self._progress.expect(steps * len(self._runs) + self._later),
            failed=_failed,
            poll=poll,
            interrupts=INTERRUPTS,
        )
        settings = self._settings
        return run(settings.plan, work, settings.judges, question, settings.stop_early)

    def _probe(self, seed: int, step: int) -> int:
        if self._short:
            ends = [runs.finish(seed) for runs in self._short]
            self._latents[seed] = [end.result for end in ends]
            return sum(end.evaluations for end in ends)
        evaluations = sum(runs.probe(seed, step) for runs in self._runs)
        self._latents[seed] = [runs.preview(seed) for runs in self._runs]
        return evaluations

    def _show(self, seeds: Sequence[int]) -> list[Candidate]:
        poll()
        panel = self._settings.panel
        latents = [latent for seed in seeds for latent in self._latents[seed]]
        pictures = iter(previews.decode(self._settings.vae, latents, STORED))
        return [Preview(seed, joined([next(pictures) for _ in self._runs], panel), panel) for seed in seeds]

    def _finish(self, seed: int) -> Finished[Tensor]:
        ends = [runs.finish(seed) for runs in self._runs]
        return Finished(
            torch.cat([end.result for end in ends]),
            sum(end.evaluations for end in ends),
            sum(end.full_run for end in ends),
            sum(end.checks for end in ends),
            any(end.changed for end in ends),
            any(end.afresh for end in ends),
        )

    def _forget(self, seed: int) -> None:
        for runs in self._runs:
            runs.forget(seed)
        self._latents.pop(seed, None)


def _failed(failure: Failure) -> None:
    log.warning("The judge %s could not %s seeds %s: %s", failure.judge, failure.asked, failure.seeds, failure.error)
    # It may have failed for want of memory, and sampling goes on.
    comfy.model_management.soft_empty_cache()
