"""A vision-language model as a judge, without a host: reading its answers, asking in both orders, checks."""

import math

import pytest
import torch
from icedit.early_filter.judge import Candidate, Choice, JudgeError, Question
from icedit.early_filter.judges import prompts
from icedit.early_filter.judges.pictures import ShownPicture, compose
from icedit.early_filter.judges.vlm import VLMJudge
from support.judges import FIRST, QUESTION, SECOND, poll
from support.pictures import photograph


class Model:
    """Answers by a function of the request, and remembers what it was asked."""

    def __init__(self, reply):
        self.reply, self.asked = reply, []

    def __call__(self, requests, _poll):
        self.asked += requests
        return [self.reply(request) for request in requests]


def brighter(request):
    """Prefers the brighter edit, whichever place it has."""
    _, first, second = request.pictures
    return f"Because.\nANSWER: {1 if first.image.mean() > second.image.mean() else 2}"


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("ANSWER: 1", Choice.FIRST),
        ("The hat is red in both.\n\n**ANSWER: 2**", Choice.SECOND),
        ("answer 2.", Choice.SECOND),
        ("Answer: TIE", Choice.TIE),
        ("Answer: a tie", Choice.TIE),
        ("Final answer: Edit 2", Choice.SECOND),
        ("The answer is **EDIT 1**.", Choice.FIRST),
        ('{"reason": "edit 2 lost the face", "answer": 1}', Choice.FIRST),
        ("\\boxed{2}", None),
        ("2", Choice.SECOND),
        ("**1**", Choice.FIRST),
        ("Edit 2", Choice.SECOND),
        ("Winner: the first", Choice.FIRST),
        ("Edit 2 is clearly better because the hat is red.", Choice.SECOND),
        ("The first edit looks better.", Choice.FIRST),
        ("Edit 1 is not better.", None),
        ("Edit 1 is better at the hat. Edit 2 is better at the face.", None),
        ("ANSWER: 1 or ANSWER: 2", None),
        ("I first thought ANSWER: 1.\nBut the face is gone.\nANSWER: 2", Choice.SECOND),
        ("<think>ANSWER: 1, surely</think>ANSWER: 2", Choice.SECOND),
        ("<think>ANSWER: 1, or is it", None),
        ("ANSWER: 3", None),
        ("ANSWER: 12", None),
        ("I cannot see any pictures.", None),
        ("", None),
        ("\x00\ufffd 一 ????", None),
    ],
)
def test_reading_a_choice(answer, choice):
    assert prompts.read_choice(answer) is choice


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("1: yes\n2: no\n3: yes", (True, False, True)),
        ("1. Yes.\n2. No, the tail is missing.\n3. yes", (True, False, True)),
        ("**1:** YES, **2:** yes, **3:** no", (True, True, False)),
        ('{"1": "yes", "2": "no", "3": "yes"}', (True, False, True)),
        ("1. Is the cat grey? Yes\n2. Is no dog there? No\n3. Is it sharp? Yes", (True, False, True)),
        ("1: yes\n3: yes", (True, False, True)),
        ("1: unsure\n2: yes\n3: maybe", (False, True, False)),
        ("1: yes\n1: no\n2: yes\n3: yes", (False, True, True)),
        ("1: yes\n2: yes\n3: yes\n4: no", (True, True, True)),
        ("yes, no, yes", (True, False, True)),
        ("<think>1: no\n2: no</think>1: yes\n2: yes\n3: yes", (True, True, True)),
        ("yes", None),
        ("The cat has 3 legs.", None),
        ("", None),
    ],
)
def test_reading_checks(answer, expected):
    assert prompts.read_checks(answer, 3) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("1. Is the cat grey?\n2) Is the sofa the same?", ("Is the cat grey?", "Is the sofa the same?")),
        (
            "Sure, here they are:\n\n- Is the cat grey?\nQuestion 2: Is it sharp?\n",
            ("Is the cat grey?", "Is it sharp?"),
        ),
        (
            "\n".join(f"{n}. Is thing {n} there?" for n in range(1, 9)),
            tuple(f"Is thing {n} there?" for n in range(1, 6)),
        ),
        ("1. Is the cat grey?\n2. Is the cat grey?", ("Is the cat grey?",)),
        ("The cat should be grey.", ()),
        ("What?", ()),
    ],
)
def test_reading_questions(answer, expected):
    assert prompts.read_questions(answer) == expected


def test_a_steady_model_is_followed_in_both_orders():
    model = Model(brighter)
    judge = VLMJudge("model", model)
    assert judge.compare(QUESTION, FIRST, SECOND, poll).choice is Choice.SECOND
    assert judge.compare(QUESTION, SECOND, FIRST, poll).choice is Choice.FIRST
    assert [[picture.label for picture in request.pictures] for request in model.asked] == [
        ["SOURCE", "EDIT 1", "EDIT 2"]
    ] * 4
    assert model.asked[0].pictures[1].image is FIRST.panel
    assert model.asked[1].pictures[1].image is SECOND.panel
    assert all('"make the {cat} grey"' in request.text for request in model.asked)


@pytest.mark.parametrize(
    ("replies", "choice"),
    [
        (["ANSWER: 1", "ANSWER: 1"], Choice.TIE),
        (["ANSWER: TIE", "ANSWER: 2"], Choice.TIE),
        (["ANSWER: 2", "who knows"], Choice.TIE),
        (["ANSWER: 2", JudgeError("no connection")], Choice.TIE),
        (["hm", "hm"], Choice.ABSTAIN),
        (["hm", JudgeError("no connection")], Choice.ABSTAIN),
        (["ANSWER: 1", "ANSWER: 2"], Choice.FIRST),
    ],
)
def test_two_orders_that_disagree_are_a_tie(replies, choice):
    left = list(replies)
    preference = VLMJudge("model", Model(lambda _: left.pop(0))).compare(QUESTION, FIRST, SECOND, poll)
    assert preference.choice is choice
    assert preference.answers == tuple(map(str, replies))
    assert preference.reasons


@pytest.mark.parametrize(("reply", "choice"), [("ANSWER: 1", Choice.FIRST), ("well", Choice.ABSTAIN)])
def test_one_order_is_one_question(reply, choice):
    model = Model(lambda _: reply)
    assert VLMJudge("model", model, swap_order=False).compare(QUESTION, FIRST, SECOND, poll).choice is choice
    assert len(model.asked) == 1


def test_a_model_that_never_answers_is_an_error():
    judge = VLMJudge("model", Model(lambda _: JudgeError("no connection")))
    with pytest.raises(JudgeError, match="no connection"):
        judge.compare(QUESTION, FIRST, SECOND, poll)
    with pytest.raises(JudgeError, match="no connection"):
        judge.score(QUESTION, [FIRST, SECOND], poll)


def checking_model(request):
    if "questions that can be answered" in request.text:
        return "1. Is the cat grey?\n2. Is the sofa the same?\n3. Is it natural?"
    assert "1. Is the cat grey?" in request.text
    edit = request.pictures[1].image.mean()
    return "1: yes\n2: yes\n3: yes" if edit > 0.5 else "1: no\n2: yes\n3: unsure"


def test_checks_count_yes_and_keep_every_answer():
    model = Model(checking_model)
    judge = VLMJudge("model", model)
    low, high = judge.score(QUESTION, [FIRST, SECOND], poll)
    assert (low.score, low.passed, high.score, high.passed) == (1.0, False, 3.0, True)
    assert low.reasons == ("no: Is the cat grey?", "yes: Is the sofa the same?", "no: Is it natural?")
    assert low.answers == (
        "1. Is the cat grey?\n2. Is the sofa the same?\n3. Is it natural?",
        "1: no\n2: yes\n3: unsure",
    )
    assert [picture.label for picture in model.asked[-1].pictures] == ["SOURCE", "EDIT"]


def test_the_questions_are_written_once_for_each_instruction_and_picture():
    model = Model(checking_model)
    judge = VLMJudge("model", model)
    source, instruction = QUESTION.source, QUESTION.instruction
    for question in (QUESTION, QUESTION, Question(source + 0.1, instruction), Question(source, "other")):
        judge.score(question, [FIRST], poll)
    assert sum("questions that can be answered" in request.text for request in model.asked) == 3


def test_without_usable_questions_general_ones_are_asked_and_reported():
    model = Model(lambda request: "???" if len(request.pictures) == 1 else "yes yes yes yes no")
    (verdict,) = VLMJudge("model", model).score(QUESTION, [FIRST], poll)
    assert verdict.score == 4.0
    assert "make the {cat} grey" in model.asked[-1].text
    assert "general ones" in verdict.reasons[-1]


def test_one_failed_edit_does_not_cost_the_others():
    replies = ["1. Is the cat grey?", JudgeError("timed out"), "1: yes", "I cannot tell."]
    verdicts = VLMJudge("model", Model(lambda _: replies.pop(0))).score(QUESTION, [FIRST, SECOND, FIRST], poll)
    assert [verdict.score for verdict in verdicts] == [None, 1.0, None]
    assert "timed out" in verdicts[0].reasons[0]
    assert "neither yes nor no" in verdicts[2].reasons[0]


def test_a_preview_of_nan_is_never_shown_to_the_model():
    model = Model(checking_model)
    broken = Candidate(3, torch.full((48, 64, 3), math.nan))
    verdicts = VLMJudge("model", model).score(QUESTION, [broken, SECOND], poll)
    assert [verdict.broken for verdict in verdicts] == [True, False]
    assert len(model.asked) == 2
    assert VLMJudge("model", model).score(QUESTION, [broken], poll)[0].broken
    assert len(model.asked) == 2


def test_without_checks_it_abstains_from_scoring():
    model = Model(brighter)
    verdicts = VLMJudge("model", model, checks=False).score(QUESTION, [FIRST, SECOND], poll)
    assert [verdict.score for verdict in verdicts] == [None, None]
    assert not model.asked


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (40, 200), (512, 512)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_composed_picture_is_square_and_holds_every_picture_unscaled(size, count):
    pictures = [ShownPicture(f"EDIT {index}", (photograph(index, *size) * 255).round() / 255) for index in range(count)]
    sheet = compose(pictures)
    assert sheet.shape[0] == sheet.shape[1]
    found = 0
    for picture in pictures:
        corner = (sheet == picture.image[0, 0]).all(dim=-1).nonzero().tolist()
        height, width = size
        found += any(torch.equal(sheet[y : y + height, x : x + width], picture.image) for y, x in corner)
    assert found == count
