"""What a vision-language model is asked: general questions, or those that a judge was trained for."""

from typing import Literal

import torch

from ..judge import Judge, Question
from . import editscore, pvc
from .editscore import MAX_VOTES, EditScoreJudge
from .vlm import Ask, VLMJudge
from .wording import Wording, own_wording, read_wording

__all__ = ["MAX_VOTES", "PICTURES", "Style", "cost_note", "styled_judge"]

Style = Literal["general", "EditScore", "PVC-Judge"]

PICTURES: dict[Style, int] = {"general": 1, "EditScore": 2, "PVC-Judge": 3}
"""How many pictures the model has to look at in one question."""

USUAL_CANDIDATES, USUAL_KEEP, USUAL_SIDE = 6, 2, 512
"""The samplers' defaults, and the trained width."""


def styled_judge(
    style: Style, title: str, ask: Ask, checks: bool, swap_order: bool, votes: int, wording: tuple[str, str] | None
) -> Judge:
    """The judge of a style; `wording` is a text file's contents and name.

    Raises:
        ValueError: the wording is not one of this style, or votes is out of range.
    """
    if not 1 <= votes <= MAX_VOTES:
        raise ValueError(f"votes is {votes}, expected 1 to {MAX_VOTES}.")
    if style == "general":
        if wording is not None:
            raise ValueError(
                f"wording is {wording[1]!r}, but the style general asks its own questions. Set style to EditScore or "
                "PVC-Judge, or empty wording."
            )
        return VLMJudge(title, ask, checks, swap_order)
    if style == "EditScore":
        return EditScoreJudge(f"EditScore by {title}", ask, votes, _wording(wording, editscore.PARTS))
    if style == "PVC-Judge":
        pair = pvc.consistency_question(_wording(wording, pvc.PARTS), votes)
        return VLMJudge(f"PVC-Judge by {title}", ask, checks, swap_order, pair)
    raise ValueError(f"style is {style!r}, expected 'general', 'EditScore' or 'PVC-Judge'.")


def cost_note(judge: Judge) -> str:
    """What judging one picture takes with the samplers' defaults, in one sentence."""
    question = Question(torch.zeros(USUAL_SIDE, USUAL_SIDE, 3), "an instruction of some words")
    cost = judge.cost(question, USUAL_CANDIDATES, USUAL_KEEP) + judge.cost(question, USUAL_KEEP, 1)
    return (
        f"Judging {USUAL_CANDIDATES} candidates of {USUAL_SIDE} x {USUAL_SIDE}, {USUAL_KEEP} kept for a second look: "
        f"at most {cost.questions} questions, about {_rounded(cost.read)} tokens read, and "
        f"{_rounded(cost.written)} written."
    )


def _rounded(tokens: int) -> str:
    return f"{round(tokens, -2):,}".replace(",", " ")


def _wording(given: tuple[str, str] | None, parts: tuple[str, ...]) -> Wording:
    return own_wording(parts) if given is None else read_wording(given[0], parts, given[1])
