"""Both samplers with the Early Filter when the user chooses: candidates to click, then the picked one."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..early_filter.captions import RankedPreview
from ..early_filter.pick_report import pick_notes, pick_report, picked_previews
from ..host import node_notes
from ..host.early_filter.filter import filter_cautions
from ..host.early_filter.pick import KEPT, PickedLatent, PickSettings, pick_latent
from ..host.outputs import not_yet

NOT_CHOSEN_AMONG = (
    "seed", "candidates", "probe_steps", "keep", "judge", "source", "instruction", "stop_early", "pass_score", "choose",
    "picked",
)  # fmt: skip
"""Inputs whose change leaves a pick valid: they say which seeds are tried and how far, or are for judges only."""


def finished_pick(
    cls: type[io.ComfyNode], settings: PickSettings, latent: Mapping[str, Any], start: float
) -> io.NodeOutput:
    """The picked candidates, finished; while a pick is missing, the candidates to choose among, and nothing after this
    node runs but for what shows previews and report."""
    done = pick_latent(settings, latent)
    notes = pick_notes(done.pictures, done.picks)
    node_notes.show(cls, filter_cautions(settings.plan, settings.process, latent) + notes)
    shown = picked_previews(done.pictures)
    previews = torch.stack([preview.picture for _, preview in shown])
    report = pick_report(done.pictures, KEPT.nbytes, time.perf_counter() - start)
    result, seed = (not_yet(), not_yet()) if done.latent is None else (done.latent, done.pictures[0].pick)
    return io.NodeOutput(result, previews, seed, report, ui=_to_click(cls, settings, done, shown))


def _to_click(
    cls: type[io.ComfyNode], settings: PickSettings, done: PickedLatent, shown: Sequence[tuple[int, RankedPreview]]
) -> dict[str, Any]:
    """The candidates for web/pick_candidate.js, which shows their pictures in place of the page's own preview."""
    pictures = torch.stack([preview.picture for _, preview in shown])
    files = ui.PreviewImage(pictures, cls=cls).as_dict()["images"]
    return {
        # As text: the page's numbers hold integers up to 2^53 only.
        "icedit_candidates": [
            {
                "seed": str(one.seed), "lines": one.lines, "score": None, "picture": index, "picked": one.won,
                "image": file,
            }
            for (index, one), file in zip(shown, files, strict=True)
        ],
        "icedit_pick": [
            {
                "asked": settings.picked,
                "inputs": settings.digest,
                "picks": [None if seed is None else str(seed) for seed in done.picks.seeds],
                "finished": done.latent is not None,
            }
        ],
    }  # fmt: skip
