"""Whatever a language model answers, judging goes on, and what cannot be read never counts as good."""

import random
import re

import pytest
import torch
from icedit.early_filter.judge import Candidate, Choice, JudgeError, Question, Verdict
from icedit.early_filter.judges.editscore import EditScoreJudge
from icedit.early_filter.judges.json_answers import read_marks, read_winner
from icedit.early_filter.judges.pvc import PARTS, consistency_question
from icedit.early_filter.judges.vlm import VLMJudge
from icedit.early_filter.judges.wording import own_wording
from support import malformed
from support.judges import poll
from support.malformed import malformed as drawn

COUNT, SEED = 200, 19
QUESTION = Question(torch.zeros(32, 32, 3), "make the {cat} grey")
BAD, PLAIN = Candidate(1, torch.full((32, 32, 3), 0.3)), Candidate(2, torch.full((32, 32, 3), 0.7))


@pytest.mark.parametrize(
    ("answer", "marks"),
    [
        ('{"reasoning": "fine", "score": [20, 18.5]}', (20.0, 18.5)),
        ('```json\n{"reasoning": "fine",\n "score": [0, 25]}\n```', (0.0, 25.0)),
        ('Sure:\n{"score": [3, 4], "reasoning": "score: [25, 25] would be wrong"} That is all.', (3.0, 4.0)),
        ('[{"reasoning": "", "score": [3, 4]}]', (3.0, 4.0)),
        ('<think>{"score": [25, 25]}</think>{"score": [3, 4]}', (3.0, 4.0)),
        ('{"reasoning": "the "cat" is grey", "score": [12, 13]}', (12.0, 13.0)),
        ("{'reasoning': 'fine', 'score': [12, 13]}", (12.0, 13.0)),
        ('{"reasoning": "fine", "score": [12, 13],}', (12.0, 13.0)),
        ("score = [12, 13]", (12.0, 13.0)),
        ('{"score": [12, 13]} {"score": [12, 13]}', (12.0, 13.0)),
    ],
)
def test_marks_are_read(answer, marks):
    assert read_marks(answer) == marks


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ('{"reasoning": "A keeps the face", "winner": "A"}', Choice.FIRST),
        ('{"winner": "Image B"}', Choice.SECOND),
        ('```json\n{"winner": "tie"}\n```', Choice.TIE),
        ('{"reasoning": "the "hat"", "winner": "B"}', Choice.SECOND),
        ("Winner: B.", Choice.SECOND),
        ("winner: Edit A", Choice.FIRST),
    ],
)
def test_winners_are_read(answer, choice):
    assert read_winner(answer) is choice


def scored_well(verdict: Verdict) -> bool:
    return verdict.score is not None or verdict.passed is True


def fooled(answers: list[str], reads_well) -> list[str]:
    """The answers of which something good is read."""
    return [answer for answer in answers if reads_well(answer)]


def editscore_reads_well(answer: str) -> bool:
    """Whether the edit that got this answer, once or twice, scores, passes, or beats one with low marks."""
    for place in range(2):

        def ask(requests, _poll, place=place):
            replies = []
            for number, request in enumerate(requests):
                low = request.pictures[-1].image is PLAIN.panel or number % 2 != place
                replies.append('{"reasoning": "", "score": [3, 3]}' if low else answer)
            return replies

        bad, plain = EditScoreJudge("model", ask).score(QUESTION, [BAD, PLAIN], poll)
        assert plain.score == pytest.approx(1.2)
        if scored_well(bad):
            return True
    return False


def pvc_reads_well(answer: str) -> bool:
    judge = VLMJudge(
        "model", lambda requests, _: [answer] * len(requests), False, False, consistency_question(own_wording(PARTS))
    )
    return judge.compare(QUESTION, BAD, PLAIN, poll).choice not in (Choice.ABSTAIN, Choice.TIE)


def choice_reads_well(answer: str) -> bool:
    judge = VLMJudge("model", lambda requests, _: [answer] * len(requests), False, False)
    return judge.compare(QUESTION, BAD, PLAIN, poll).choice not in (Choice.ABSTAIN, Choice.TIE)


def checks_read_well(answer: str) -> bool:
    def ask(requests, _poll):
        return [answer if len(request.pictures) > 1 else THREE_QUESTIONS for request in requests]

    verdict = VLMJudge("model", ask).score(QUESTION, [BAD], poll)[0]
    return bool(verdict.score) or verdict.passed is True


THREE_QUESTIONS = "1. Is the cat grey?\n2. Is the sofa the same?\n3. Does it look natural?"


@pytest.mark.parametrize(
    ("kinds", "reads_well"),
    [
        (malformed.MARKS, editscore_reads_well),
        (malformed.WINNER, pvc_reads_well),
        (malformed.CHOICE, choice_reads_well),
        (malformed.CHECKS, checks_read_well),
    ],
    ids=["EditScore", "PVC-Judge", "general-comparison", "general-checks"],
)
def test_of_malformed_answers_none_crashes_and_none_counts_as_good(kinds, reads_well):
    answers = drawn(kinds, COUNT, SEED)
    assert len(answers) == COUNT >= len(kinds)
    assert fooled(answers, reads_well) == []


def test_a_reader_that_takes_whatever_numbers_there_are_is_found_out():
    """The test above can fail."""

    def naive(answer: str) -> bool:
        numbers = [float(number) for number in re.findall(r"\d+", answer)[:2]]
        return len(numbers) == 2 and min(numbers) >= 20

    assert len(fooled(drawn(malformed.MARKS, COUNT, SEED), naive)) > COUNT / 4
    assert len(fooled(drawn(malformed.WINNER, COUNT, SEED), lambda answer: '"A"' in answer)) > COUNT / 10
    assert len(fooled(drawn(malformed.CHOICE, COUNT, SEED), lambda answer: "1" in answer)) > COUNT / 10
    assert len(fooled(drawn(malformed.CHECKS, COUNT, SEED), lambda answer: "yes" in answer)) > COUNT / 10


def test_damaged_answers_never_give_better_marks_than_were_written():
    draw, read = random.Random(SEED), 0
    for _ in range(COUNT):
        text = list('{"reasoning": "The "cat" is not grey.", "score": [1, 2]}')
        for _ in range(draw.randint(1, 6)):
            place = draw.randrange(len(text))
            if draw.random() < 0.5:
                del text[place]
            else:
                text.insert(place, draw.choice('"{}[],: .\n\\'))
        marks = read_marks("".join(text))
        read += marks is not None
        assert marks is None or max(marks) <= 2
    assert read > COUNT / 10


def test_a_failed_request_is_no_vote_and_all_of_them_are_an_error():
    good, failed = '{"reasoning": "", "score": [20, 20]}', JudgeError("timed out")
    replies = [good, failed, good, good, good, good]
    judge = EditScoreJudge("model", lambda *_: replies, votes=3)
    (verdict,) = judge.score(QUESTION, [BAD], poll)
    assert verdict.score == pytest.approx(8.0)
    assert "timed out" in verdict.reasons
    replies[2] = failed
    (verdict,) = judge.score(QUESTION, [BAD], poll)
    assert (verdict.score, verdict.passed) == (None, None)
    with pytest.raises(JudgeError, match="timed out"):
        EditScoreJudge("model", lambda requests, _: [failed] * len(requests)).score(QUESTION, [BAD], poll)
