"""What users should see without opening the report: that another judge than theirs chose, or that the model changed
during the run."""

from collections.abc import Sequence
from typing import Any

from .judge import Judge
from .outcome import Finished, Outcome
from .select import Failure


def notes(outcomes: Sequence[Outcome[Any]], judges: Sequence[Judge]) -> list[str]:
    """Sentences about the filters of all pictures of a batch; none where the first of `judges` chose every time."""
    failures = [failure for outcome in outcomes for _, failure in outcome.failures]
    found = [f"The judge {judge} could not answer: {error}" for judge, error in dict.fromkeys(map(_said, failures))]
    asked, *others = judges
    choosers = {look.ranking.judge for outcome in outcomes for look in outcome.looks if look.open}
    silent = choosers - {asked.name}
    if silent and not any(failure.judge == asked.name for failure in failures):
        found.insert(0, f"The judge {asked.name} had no opinion.")
    if None in silent:
        found.append("So nobody chose, and the candidate that came first was taken.")
    found += [f"So the judge {judge.name} chose{_blind(judge)}." for judge in others if judge.name in silent]
    if failures and not silent:
        found.append("It chose by its other answers.")
    return found + changes(
        [(outcome.winner, outcome.finished) for outcome in outcomes], "before judging", "after the judge"
    )


def changes(finished: Sequence[tuple[int, Finished[Any]]], then: str, since: str) -> list[str]:
    """A sentence about the seeds whose model did not answer as it had `then`, because of how it was loaded `since`."""
    changed = [(seed, end) for seed, end in finished if end.changed]
    if not changed:
        return []
    seeds = ", ".join(dict.fromkeys(str(seed) for seed, _ in changed))
    said = (
        f"The model did not answer as it had {then} (seed {seeds}): ComfyUI probably loaded it in another way "
        f"{since}, and then computes a LoRA with other rounding."
    )
    if all(end.exact for _, end in changed):
        return [f"{said} So the winner was run afresh from its first step; it is what KSampler gives."]
    advice = "Set when_changed to 'run afresh' to get exactly that."
    return [f"{said} The winner was resumed all the same and differs a little from what KSampler gives. {advice}"]


def _blind(judge: Judge) -> str:
    return "" if judge.reads_instruction else ", which does not know what you asked for"


def _said(failure: Failure) -> tuple[str, str]:
    return failure.judge, failure.error
