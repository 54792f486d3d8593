"""A server that answers like a vision-language model of known accuracy, because it knows how every edit came out."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from candidates import LOOKS, Candidates

QUESTIONS = "\n".join(f"{number}. Is part {number} of the edit as it should be?" for number in range(1, 6))

MEAN_GAP = 7 / 15
"""Between the standings of two of six candidates that all differ."""


def standings(known: Candidates) -> dict[str, float]:
    """Every candidate's picture as servers get it, and the share of the edit's other candidates that it beats, once
    finished; ties count half."""
    from icedit.early_filter.judges.pictures import data_url

    found = {}
    for edit in range(len(known.edits)):
        qualities = [known.quality(edit, seed) for seed in range(known.seeds)]
        for seed, quality in enumerate(qualities):
            beaten = sum((quality > other) + 0.5 * (quality == other) for other in qualities) - 0.5
            for look in range(len(LOOKS)):
                found[data_url(known.candidate(edit, seed, look).panel)] = beaten / max(1, known.seeds - 1)
    return found


@dataclass
class ScriptedModel:
    """Answers the questions of every style; each answer is right or wrong by itself.

    A comparison is right with the probability `accuracy`. Marks and checks are by the edit's standing or by chance, so
    often that of two of the edit's candidates the better one gets the higher marks in a share `accuracy` of cases. The
    votes of real models err together, so that they gain less by votes than this one.

    Attributes:
        standings: of every picture, see the function of that name.
        asked: how many questions it has answered.
    """

    standings: dict[str, float] = field(repr=False)
    accuracy: float
    asked: int = 0

    def __post_init__(self) -> None:
        self._draw = random.Random(round(100 * self.accuracy))
        # Of two marks by standing the higher one is right, of two by chance every other; of one of each with more
        # than a half, by the distance of the standings. This is the root of the equation that follows.
        gap, lead = MEAN_GAP, self.accuracy - 0.5
        self._knows = (math.sqrt(gap**2 + 4 * (0.5 - gap) * lead) - gap) / (2 * (0.5 - gap))

    def reply(self, _number: int, call: Any) -> Any:
        """For a server on this machine."""
        from support.chat_server import says

        return says(self._answer(call.body))

    def ask(self, requests: Sequence[Any], _poll: Any) -> list[str]:
        """Without a server between, which is quicker."""
        from icedit.early_filter.judges.chat_request import chat_body

        return [self._answer(json.loads(chat_body("scripted", request, one_picture=False))) for request in requests]

    def _answer(self, body: dict[str, Any]) -> str:
        self.asked += 1
        content = body["messages"][0]["content"]
        urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        edits, text = [self.standings[url] for url in urls if url in self.standings], content[-1]["text"]
        if len(edits) == 2:
            return self._comparison(edits, text)
        return self._about_one(edits[0], len(urls), text) if edits else QUESTIONS

    def _comparison(self, edits: list[float], text: str) -> str:
        better = int(edits[1] > edits[0])
        said = better if self._draw.random() < self.accuracy else 1 - better
        return f'{{"reasoning": "", "winner": "{"AB"[said]}"}}' if '"winner"' in text else f"ANSWER: {said + 1}"

    def _about_one(self, standing: float, pictures: int, text: str) -> str:
        knows = self._draw.random() < self._knows
        share = standing if knows else self._draw.random()
        if '"score"' in text:
            # All that it knows is in the question about source and edit.
            return f'{{"reasoning": "", "score": [{25 * share if pictures == 2 else 25:.3f}, 25]}}'
        passed = round(5 * share)
        return "\n".join(f"{number}: {'yes' if number <= passed else 'no'}" for number in range(1, 6))
