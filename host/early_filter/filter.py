"""The Early Filter on the host: every picture of a latent gets its own filter and its own winner."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import latent_preview
import torch
from torch import Tensor

from ...early_filter.budget import Budget
from ...early_filter.judge import Judge, Question
from ...early_filter.outcome import Outcome
from ...early_filter.plan import Plan, StopEarly
from ...early_filter.run import EarlyFilter
from ...early_filter.stored_preview import Panel, joined, right_half
from ..conditioning_rows import unused_pictures
from ..sampling import LatentRow, Process, as_output, latent_rows, row
from ..step_caches import unknown_wrapper
from ..tiles import picture_rows
from . import previews
from .panels import Panels
from .resume import refuse_caches
from .tiled import TiledSampler

EVERYTHING = 0.999
"""A noise mask that is nowhere below this lets everything change."""


@dataclass(frozen=True)
class FilterSettings:
    """What the user set, besides what a sampler needs.

    Attributes:
        process: how the winner is sampled.
        short: how candidates are sampled in mode "paper"; None in mode "resume".
        judges: in the order in which they are asked.
        source: the pictures to compare with, `b h w 3`; None takes the left half of the latent.
        afresh: run the winner from its first step where the model no longer computes as while probing.
        tiles: how many rows of the latent show one picture; None takes what the latent says.
    """

    plan: Plan
    process: Process
    short: Process | None
    vae: Any
    instruction: str
    panel: Panel
    judges: tuple[Judge, ...]
    stop_early: StopEarly | None = None
    source: Tensor | None = None
    afresh: bool = True
    tiles: int | None = None


def filter_latent(settings: FilterSettings, latent: Mapping[str, Any]) -> tuple[dict[str, Any], list[Outcome[Tensor]]]:
    """Filter seeds for each picture of a LATENT; the LATENT of all winners, and how each picture's winner was found.

    Raises:
        ValueError: settings and latent do not fit together; nothing has been sampled then.
    """
    process, plan = settings.process, settings.plan
    rows = latent_rows(process.model, latent)
    pictures = [[rows[index] for index in indices] for indices in picture_rows(latent, settings.tiles)]
    _check(settings, rows, len(pictures))
    show = latent_preview.prepare_callback(process.model, plan.most_steps * len(rows))
    budget = Budget(plan, len(rows), show)
    outcomes = [_filter_picture(settings, picture, budget) for picture in pictures]
    return as_output(latent, torch.cat([outcome.result for outcome in outcomes])), outcomes


def _filter_picture(settings: FilterSettings, rows: Sequence[LatentRow], budget: Budget) -> Outcome[Tensor]:
    begun = time.perf_counter()
    panels = Panels(settings.vae, settings.panel, rows)
    question = _question(settings, rows, panels)
    decoding = time.perf_counter() - begun
    sampler = TiledSampler(settings, rows, budget, panels)
    budget.begin_picture(len(rows))
    outcome = EarlyFilter(settings.plan, sampler, settings.judges, question, budget, settings.stop_early).run()
    return replace(outcome, seconds=outcome.seconds | {"decoding": outcome.seconds["decoding"] + decoding})


def filter_cautions(plan: Plan, process: Process, latent: Mapping[str, Any]) -> list[str]:
    """What users should know about their model and conditioning before they trust the winner."""
    found = []
    wrapper = unknown_wrapper(process.model, process.guider.model_options)
    if wrapper is not None and plan.mode == "resume":
        found.append(
            f"The model carries a wrapper that is not ComfyUI's ({wrapper}). Resuming is right only if it keeps no "
            "state between steps. If it does, as step caches do, set mode to 'paper'."
        )
    if left := unused_pictures(process.guider.original_conds, len(latent["samples"])):
        found.append(
            f"The conditioning holds the diptychs or pictures of {left + 1} edits, and latent_image one picture: the "
            "first is used, as KSampler does. Use the whole latent of the same Diptych Conditioning."
        )
    return found


def _check(settings: FilterSettings, rows: Sequence[LatentRow], pictures: int) -> None:
    if settings.plan.mode == "resume":
        refuse_caches(settings.process)
    _check_instruction(settings)
    if settings.source is not None:
        _check_source(len(settings.source), len(rows), pictures)
        return
    if settings.panel == "whole picture":
        raise ValueError(
            "panel is 'whole picture', and the judge compares with the picture before the edit: connect that "
            "picture to source. (With an ICEdit diptych set panel to 'right half'.)"
        )
    if any(torch.count_nonzero(one.samples) == 0 for one in rows):
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


def _check_instruction(settings: FilterSettings) -> None:
    readers = [judge.name for judge in settings.judges if judge.reads_instruction]
    if readers and not settings.instruction.strip():
        raise ValueError(
            f"instruction is empty, and the judge ({readers[0]}) chooses by it. Connect the output instruction of Edit "
            "Instruction, or write what should change; the judge Pixels needs none."
        )


def _question(settings: FilterSettings, rows: Sequence[LatentRow], panels: Panels) -> Question:
    """The source and region of one picture at the size of its previews; its tiles side by side."""
    given = settings.source
    source = panels.left if given is None else joined([_fitted(settings, given, one) for one in rows])
    region = joined([_region(settings, one) for one in rows])
    return Question(source, settings.instruction, None if float(region.amin()) > EVERYTHING else region)


def _fitted(settings: FilterSettings, source: Tensor, latent: LatentRow) -> Tensor:
    """The given source `h w 3` of one row of the latent."""
    height, width = previews.decoded_size(settings.vae, latent.samples)
    # A diptych's panels are the source stretched to whole tokens; other models' pictures are cropped to them.
    size, crop = ((height, width // 2), "disabled") if settings.panel == "right half" else ((height, width), "center")
    return previews.fitted(row(source, latent.index)[0], *size, crop)


def _region(settings: FilterSettings, latent: LatentRow) -> Tensor:
    """Where one row of the latent may change, `h w`."""
    height, width = previews.decoded_size(settings.vae, latent.samples)
    region = previews.region(latent.noise_mask, height, width)
    region = torch.ones(height, width) if region is None else region
    return right_half(region) if settings.panel == "right half" else region
