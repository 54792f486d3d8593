"""Probing candidates for the user to choose among, and finishing the picked one in a later run from what was kept."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import latent_preview
import torch

from ...early_filter.budget import Budget
from ...early_filter.kept import KeptPicture, KeptRuns
from ...early_filter.pick import PickedPicture, PickFilter
from ...early_filter.picks import Picks, read_picks
from ...early_filter.plan import Plan
from ...early_filter.stored_preview import Panel
from ..sampling import Process, as_output, latent_rows
from ..tiles import picture_rows
from .panels import Panels
from .resume import refuse_caches
from .tiled import TiledSampler

KEPT = KeptRuns()
"""Of all nodes. Node classes cannot hold a state, and the next run of a node has nothing else in common with this
one."""


@dataclass(frozen=True)
class PickSettings:
    """What the user set, and for whom something is kept.

    Attributes:
        process: how a picture is finished.
        short: how candidates are sampled in mode "paper"; None in mode "resume".
        afresh: finish from the first step where the model no longer computes as while probing.
        tiles: how many rows of the latent show one picture; None takes what the latent says.
        picked: as the user wrote it.
        digest: of what the node is given, None where that is not known.
        owner: whose run this is.
        inputs: what `process` was made of.
    """

    plan: Plan
    process: Process
    short: Process | None
    vae: Any
    panel: Panel
    afresh: bool
    tiles: int | None
    picked: str
    digest: str | None
    owner: Hashable
    inputs: Any


@dataclass(frozen=True)
class PickedLatent:
    """The LATENT of all picked candidates, None while a picture has no pick, and how each picture came to it."""

    latent: dict[str, Any] | None
    pictures: tuple[PickedPicture, ...]
    picks: Picks


def pick_latent(settings: PickSettings, latent: Mapping[str, Any]) -> PickedLatent:
    """Show candidates for each picture of a LATENT, or finish those that are picked.

    Raises:
        ValueError: settings, picks and latent do not fit together; nothing has been sampled then.
    """
    process, plan = settings.process, settings.plan
    rows = latent_rows(process.model, latent)
    indices = picture_rows(latent, settings.tiles)
    if plan.mode == "resume":
        refuse_caches(process)
    picks = read_picks(settings.picked, plan, len(indices), settings.digest)
    kept = KEPT.of(settings.owner, _inputs(settings, latent), [len(picture) for picture in indices])
    budget = Budget(plan, len(rows), latent_preview.prepare_callback(process.model, plan.most_steps * len(rows)))
    filters = []
    for picture, held, seed in zip(indices, kept.pictures, picks.seeds, strict=True):
        tiles = [rows[index] for index in picture]
        panels = Panels(settings.vae, settings.panel, tiles, judged=False)
        sampler = TiledSampler(settings, tiles, budget, panels, held.recordings)
        filters.append(PickFilter(plan, sampler, held, _seeds(plan, held, picks, seed), seed, picks.complete))
    budget.expect(sum(one.steps * len(picture) for one, picture in zip(filters, indices, strict=True)))
    try:
        pictures = tuple(one.run() for one in filters)
    finally:
        KEPT.trim()
    for held, one in zip(kept.pictures, pictures, strict=True):
        held.shown = tuple(one.shown)
    ends = [one.finished.result for one in pictures if one.finished is not None]
    return PickedLatent(as_output(latent, torch.cat(ends)) if picks.complete else None, pictures, picks)


def _inputs(settings: PickSettings, latent: Mapping[str, Any]) -> list[Any]:
    """What the steps of a seed depend on: not on the other seeds, nor on how far they are probed."""
    short = None if settings.short is None else settings.plan.probe_steps
    setting = [settings.plan.mode, short, settings.panel, settings.afresh, settings.tiles]
    return [settings.inputs, dict(latent), settings.vae, setting]


def _seeds(plan: Plan, kept: KeptPicture, picks: Picks, seed: int | None) -> tuple[int, ...]:
    """The candidates of one picture to show: the planned ones, or once one is picked those that it was picked from."""
    before = tuple(one for one in kept.shown if one in kept.candidates)
    if len(picks.missing) == len(picks.seeds) or not (before or picks.complete):
        return plan.seeds
    return before if seed is None or seed in before else (*before, seed)
