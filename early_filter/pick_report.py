"""What a run with the user's own choice says: the report, the captions of the candidates, and what to do next."""

import json
from collections.abc import Sequence

from .captions import RankedPreview
from .notes import changes
from .pick import PickedPicture
from .picks import Picks
from .report import Entry


def pick_report(pictures: Sequence[PickedPicture], kept_bytes: int, seconds: float) -> str:
    """JSON text about one run for all pictures of a batch; `kept_bytes` is what all nodes keep after it."""
    plan = pictures[0].plan
    finished = [one.finished for one in pictures if one.finished is not None]
    return json.dumps(
        {
            "mode": plan.mode,
            "choose": "me",
            "candidates": plan.candidates,
            "probe_steps": plan.probe_steps,
            "steps": plan.steps,
            "seeds": [one.pick for one in pictures] if finished else [],
            "exact": all(end.exact for end in finished) if finished else None,
            "evaluations": {
                "spent": sum(sum(one.evaluations.values()) for one in pictures),
                "work": round(sum(one.work for one in pictures), 2),
                "no_filter": sum(end.full_run for end in finished) or None,
            },
            "seconds": _sum([one.seconds for one in pictures]) | {"total": seconds},
            "kept_bytes": kept_bytes,
            "pictures": [_picture(one) for one in pictures],
        },
        indent=1,
    )


def picked_previews(pictures: Sequence[PickedPicture]) -> list[tuple[int, RankedPreview]]:
    """The candidates that the user sees, in order, each with its picture's number from 0."""
    return [
        (
            index,
            RankedPreview(
                seed,
                candidate.preview.panel.nan_to_num().clamp(0.0, 1.0),
                (f"#{number}  seed {seed}", _state(one, seed))
                + ((f"picture {index + 1}",) if len(pictures) > 1 else ()),
                one.finished is not None and seed == one.pick,
            ),
        )
        for index, one in enumerate(pictures)
        for number, (seed, candidate) in enumerate(one.shown.items(), start=1)
    ]


def pick_notes(pictures: Sequence[PickedPicture], picks: Picks) -> list[str]:
    """What to do next, and what a user should know of the result."""
    finished = [(one.pick, one.finished) for one in pictures if one.pick is not None and one.finished is not None]
    if finished:
        return changes(finished, "while probing", "since then")
    if picks.stale:
        seeds = ", ".join(map(str, picks.stale))
        said = f"What this node is given has changed since seed {seeds} was picked, so here are new candidates."
        return [f"{said} Click one and press Run. To finish seed {seeds} all the same, write it into picked."]
    if 0 < len(picks.missing) < len(pictures):
        missing = ", ".join(map(str, picks.missing))
        return [f"Nothing is picked yet for picture {missing}: click a candidate of it too, then press Run."]
    return ["Click a candidate and press Run: only that one is finished. Nothing after this node has run yet."]


def _state(one: PickedPicture, seed: int) -> str:
    if one.finished is not None and seed == one.pick:
        return "finished"
    return "finished before" if one.shown[seed].finished else f"step {one.shown[seed].step}"


def _why(one: PickedPicture) -> str:
    """One sentence: what was done for the pick."""
    if one.pick is None:
        return "No candidate is picked yet."
    if one.finished is None:
        return f"Seed {one.pick} is picked, and waits for the other pictures' picks."
    if one.kept_steps == one.plan.steps:
        return f"Seed {one.pick} was picked; it had been finished before."
    if one.finished.afresh:
        return f"Seed {one.pick} was picked and run afresh, because the model no longer computed as while probing."
    if one.kept_steps:
        return f"Seed {one.pick} was picked, and went on from step {one.kept_steps}."
    if one.plan.mode == "paper":
        return f"Seed {one.pick} was picked, and run from its first step, as mode paper does."
    return f"Seed {one.pick} was picked. None of its steps were kept, so it was run from its first step."


def _picture(one: PickedPicture) -> Entry:
    finished = one.finished
    return {
        "seed": one.pick,
        "why": _why(one),
        "kept_steps": one.kept_steps,
        "exact": finished.exact if finished else None,
        "model_changed": finished.changed if finished else None,
        "run_afresh": finished.afresh if finished else None,
        "candidates": [
            {
                "seed": seed,
                "step": candidate.step,
                "finished": candidate.finished is not None,
                "evaluations": one.evaluations.get(seed, 0),
            }
            for seed, candidate in one.shown.items()
        ],
    }


def _sum(entries: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: sum(entry[key] for entry in entries) for key in entries[0]}
