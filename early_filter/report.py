"""The report: what was spent, what every judge said about every candidate, and why the winner won."""

import json
from collections.abc import Sequence
from typing import Any

from .judge import Verdict
from .outcome import LookResult, Outcome
from .plan import PAPER_STEPS
from .select import Failure

Entry = dict[str, Any]


def filter_report(outcomes: Sequence[Outcome[Any]], seconds: float) -> str:
    """JSON text about the filters of all pictures of a batch, which took `seconds` in all."""
    plan = outcomes[0].plan
    return json.dumps(
        {
            "mode": plan.mode,
            "candidates": plan.candidates,
            "probe_steps": plan.probe_steps,
            "keep": plan.keep,
            "steps": plan.steps,
            "seeds": [outcome.winner for outcome in outcomes],
            "filtered": all(outcome.filtered for outcome in outcomes),
            "exact": all(outcome.exact for outcome in outcomes),
            "evaluations": _sum([evaluations(outcome) for outcome in outcomes]),
            **_stop_early(outcomes),
            "seconds": _sum([outcome.seconds for outcome in outcomes]) | {"total": seconds},
            "pictures": [_picture(outcome) for outcome in outcomes],
        },
        indent=1,
    )


def evaluations(outcome: Outcome[Any]) -> dict[str, float]:
    """Model evaluations spent on one picture, and how many other schemes would have spent with the same sampler.

    `work` is what those spent took, in evaluations in full: less than their number where a node on the model leaves
    parts of them out. One evaluation is one call of the model for all prompts together. The figures of the other
    schemes are exact for samplers with one evaluation for each step, and scaled from the full run for the rest.
    """
    plan, whole = outcome.plan, outcome.finished.full_run
    short = {steps: round(whole * steps / plan.steps) for steps in (plan.probe_steps, PAPER_STEPS)}
    return {
        "spent": sum(outcome.evaluations.values()),
        "work": round(outcome.work, 2),
        "checks": outcome.finished.checks,
        "no_filter": whole,
        "best_of_all": plan.candidates * whole,
        "paper_scheme_same_probe": plan.candidates * short[plan.probe_steps] + whole,
        f"paper_scheme_{PAPER_STEPS}_steps": plan.candidates * short[PAPER_STEPS] + whole,
    }


def why(outcome: Outcome[Any]) -> str:
    """One sentence: how the winner was chosen."""
    if outcome.stopped_early:
        return _why_good_enough(outcome)
    if outcome.plan.candidates == 1:
        return "Unfiltered: there was only one candidate."
    if outcome.filtered:
        last = next(look for look in reversed(outcome.looks) if look.ranking.judge is not None)
        return f"The judge {last.ranking.judge} ranked it first after step {last.step}."
    if any(look.open for look in outcome.looks):
        return "Unfiltered: no judge had an opinion, so the first seed was taken."
    return "Unfiltered: all candidates look the same, so the first seed was taken."


def _stop_early(outcomes: Sequence[Outcome[Any]]) -> Entry:
    """What a run that may stop early takes at least and at most, scaled from the full runs as the other schemes are."""
    stop, plan = outcomes[0].stop_early, outcomes[0].plan
    if stop is None:
        return {}
    runs = sum(outcome.finished.full_run for outcome in outcomes) / plan.steps
    planned = {"least": round(plan.least_evaluations * runs), "most": round(plan.most_evaluations * runs)}
    tried = [len(outcome.previews) for outcome in outcomes]
    return {"stop_early": {"pass_score": stop.pass_score, "planned_evaluations": planned, "candidates_tried": tried}}


def _why_good_enough(outcome: Outcome[Any]) -> str:
    verdict = outcome.looks[-1].ranking.verdicts[outcome.winner]
    if verdict.passed:
        return "It passed every check, so the other candidates were not looked at."
    return f"It scored {verdict.score:.3g}, which is enough, so the other candidates were not looked at."


def _picture(outcome: Outcome[Any]) -> Entry:
    return {
        "seed": outcome.winner,
        "filtered": outcome.filtered,
        "why": why(outcome),
        "exact": outcome.exact,
        "model_changed": outcome.finished.changed,
        "run_afresh": outcome.finished.afresh,
        "evaluations": evaluations(outcome),
        "candidates": [_candidate(outcome, seed) for seed in outcome.plan.seeds],
        "looks": [_look(look) for look in outcome.looks],
        "failures": [_failure(step, failure) for step, failure in outcome.failures],
    }


def _candidate(outcome: Outcome[Any], seed: int) -> Entry:
    looks = [look for look in outcome.looks if seed in look.seeds]
    left = next((look.step for look in looks if seed not in look.kept), None)
    verdicts = [
        {"step": look.step} | _verdict(look.ranking.verdicts[seed]) for look in looks if seed in look.ranking.verdicts
    ]
    twin = next((look.twins[seed] for look in looks if seed in look.twins), None)
    return {
        "seed": seed,
        "winner": seed == outcome.winner,
        "left_at_step": left,
        "looks_like_seed": twin,
        "evaluations": outcome.evaluations.get(seed, 0),
        "verdicts": verdicts,
    }


def _verdict(verdict: Verdict) -> Entry:
    return {
        "score": verdict.score,
        "broken": verdict.broken,
        "passed": verdict.passed,
        "reasons": verdict.reasons,
        "answers": verdict.answers,
    }


def _look(look: LookResult) -> Entry:
    return {
        "step": look.step,
        "judge": look.ranking.judge,
        "order": look.ranking.order,
        "kept": look.kept,
        "comparisons": [
            {
                "judge": entry.judge,
                "first": entry.first,
                "second": entry.second,
                "choice": entry.preference.choice.value,
                "reasons": entry.preference.reasons,
                "answers": entry.preference.answers,
            }
            for entry in look.ranking.comparisons
        ],
    }


def _failure(step: int, failure: Failure) -> Entry:
    return {
        "step": step,
        "judge": failure.judge,
        "asked": failure.asked,
        "seeds": failure.seeds,
        "error": failure.error,
    }


def _sum(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {key: sum(entry[key] for entry in entries) for key in entries[0]}
