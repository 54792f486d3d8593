"""PVC-Judge's question (arXiv 2603.28547): which of two edits keeps better what was to stay, A, B or a tie."""

from dataclasses import replace

from ..judge import Candidate, Question
from .editscore import SAMPLING
from .json_answers import WINNER_SCHEMA, read_winner
from .pictures import ShownPicture
from .prompts import AnswerSampling, Request
from .vlm import PairQuestion
from .wording import COMPARISON, Wording

PARTS = (COMPARISON,)

LIKELIEST = AnswerSampling(temperature=0.0, top_p=1.0, top_k=0, max_tokens=SAMPLING.max_tokens)
"""One vote is the likeliest answer. Several would all be that one, so they are drawn."""


def consistency_question(wording: Wording, votes: int = 1) -> PairQuestion:
    """Asks for the more consistent edit; it says nothing about whether the instruction was carried out."""

    def request(question: Question, first: Candidate, second: Candidate, vote: int) -> Request:
        pictures = tuple(
            ShownPicture(label, picture)
            for label, picture in (("SOURCE", question.source), ("A", first.panel), ("B", second.panel))
        )
        sampling = LIKELIEST if votes == 1 else replace(SAMPLING, seed=vote)
        return Request(wording.text(COMPARISON, question.instruction), pictures, sampling, WINNER_SCHEMA, separate=True)

    return PairQuestion(request, read_winner, votes, SAMPLING.max_tokens)
