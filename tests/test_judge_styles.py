"""The styles of the vision-language judges: what is asked, how marks become a score, how a winner is found."""

import pytest
import torch
from icedit.early_filter.judge import Candidate, Choice, Question
from icedit.early_filter.judges import pvc
from icedit.early_filter.judges.editscore import PARTS, EditScoreJudge
from icedit.early_filter.judges.endpoint import Endpoint
from icedit.early_filter.judges.pictures import data_url
from icedit.early_filter.judges.prompts import comparison
from icedit.early_filter.judges.styles import cost_note, styled_judge
from icedit.early_filter.judges.vlm import VLMJudge
from icedit.early_filter.judges.wording import own_wording, read_wording
from icedit.early_filter.select import AskedJudge, rank
from support import tiny_vlm
from support.chat_server import ChatServer, Reply, says
from support.judges import poll
from support.pictures import photograph

SOURCE = photograph(1, 64, 96)
QUESTION = Question(SOURCE, "make the {cat} grey")
EDITS = [Candidate(seed, photograph(seed + 10, 64, 96)) for seed in range(1, 7)]


class Marker:
    """Gives every edit marks by its seed, and remembers what it was asked."""

    def __init__(self, marks):
        self.marks, self.asked = marks, []

    def __call__(self, requests, _poll):
        self.asked += requests
        return [self.reply(request) for request in requests]

    def reply(self, request):
        edit = next(edit for edit in EDITS if edit.panel is request.pictures[-1].image)
        following, quality = self.marks[edit.seed]
        return f'{{"reasoning": "x", "score": {list(following if len(request.pictures) == 2 else quality)}}}'


def test_editscore_asks_about_source_and_edit_and_then_about_the_edit_alone():
    model = Marker({1: ([16, 25], [9, 20])})
    (verdict,) = EditScoreJudge("model", model).score(QUESTION, EDITS[:1], poll)
    # The root of the product of the lower marks, of 25, brought to 10.
    assert verdict.score == pytest.approx((16 * 9) ** 0.5 / 2.5)
    assert verdict.passed is False
    following, quality = model.asked
    assert [picture.image is shown for picture, shown in zip(following.pictures, (SOURCE, EDITS[0].panel), strict=True)]
    assert [picture.image is EDITS[0].panel for picture in quality.pictures] == [True]
    assert "make the {cat} grey" in following.text
    assert "make the {cat} grey" not in quality.text
    drawn = {(request.sampling.temperature, request.sampling.top_p, request.sampling.top_k) for request in model.asked}
    assert drawn == {(0.7, 0.9, 20)}


def test_editscore_ranks_and_passes_by_the_lowest_marks():
    model = Marker({1: ([25, 4], [25, 25]), 2: ([20, 21], [22, 20]), 3: ([25, 25], [25, 0])})
    asked = AskedJudge(EditScoreJudge("model", model), QUESTION, poll, ())
    ranking = rank([asked], EDITS[:3], keep=1)
    assert ranking.order == (2, 1, 3)
    assert [ranking.verdicts[seed].passed for seed in (1, 2, 3)] == [False, True, False]


def test_votes_are_asked_with_other_seeds_and_averaged():
    model = Marker({1: ([16, 25], [9, 20])})
    spoken = iter(["[25, 25]", "[25, 25]", "[9, 25]", "[25, 9]", "[1, 1]", "[1, 1]"])
    model.reply = lambda _: f'{{"score": {next(spoken)}}}'
    (verdict,) = EditScoreJudge("model", model, votes=3).score(QUESTION, EDITS[:1], poll)
    assert verdict.score == pytest.approx((10 + 3.6 + 0.4) / 3)
    assert [request.sampling.seed for request in model.asked] == [0, 0, 1, 1, 2, 2]
    for votes in (0, 5):
        with pytest.raises(ValueError, match=f"votes is {votes}, expected 1 to 4"):
            styled_judge("EditScore", "model", model, True, True, votes, None)


def keeps_most(request):
    """A PVC-Judge that prefers the brighter edit, in whichever place."""
    _, first, second = (picture.image.mean() for picture in request.pictures)
    return f'{{"reasoning": "x", "winner": "{"A" if first > second else "B"}"}}'


def test_pvc_judge_ranks_all_candidates_in_both_orders():
    asked = []

    def ask(requests, _poll):
        asked.extend(requests)
        return [keeps_most(request) for request in requests]

    judge = styled_judge("PVC-Judge", "model", ask, False, True, 1, None)
    edits = [Candidate(seed, torch.full((32, 32, 3), seed / 10)) for seed in (3, 1, 6, 2, 5, 4)]
    question = Question(torch.zeros(32, 32, 3), "make it grey")
    ranking = rank([AskedJudge(judge, question, poll, ())], edits, keep=2)
    assert ranking.order[:2] == (6, 5)
    # Fewer than all 15 pairs, each in both orders.
    assert len(asked) == 2 * len(ranking.comparisons) <= judge.cost(question, 6, 2).questions == 18
    assert [picture.label for picture in asked[0].pictures] == ["SOURCE", "A", "B"]


@pytest.mark.parametrize("swap_order", [True, False])
def test_pvc_votes_decide_by_the_majority(swap_order):
    script = {
        "ABABA": Choice.FIRST,
        "ABABB": Choice.SECOND,
        "AABBt": Choice.TIE,
        "A????": Choice.TIE,
        "?????": Choice.ABSTAIN,
    }
    for said, choice in script.items():

        def ask(requests, _poll, said=said):
            swapped = {"A": "B", "B": "A"}
            replies = []
            for number, _ in enumerate(requests):
                vote = said[number // 2 if swap_order else number]
                replies.append(swapped.get(vote, vote) if swap_order and number % 2 else vote)
            return [f'{{"winner": "{"Tie" if reply == "t" else reply}"}}' for reply in replies]

        pair = pvc.consistency_question(own_wording(pvc.PARTS), votes=5)
        assert VLMJudge("model", ask, False, swap_order, pair).compare(QUESTION, *EDITS[:2], poll).choice is choice


WORDING = '[following]\nRate this: <instruction>\n{"score": [a, b]}\n\n[quality]\nRate the picture.\n'


def test_a_users_wording_is_asked_word_for_word():
    model = Marker({1: ([5, 5], [5, 5])})
    judge = styled_judge("EditScore", "model", model, True, True, 1, (WORDING, "mine.txt"))
    judge.score(QUESTION, EDITS[:1], poll)
    assert [request.text for request in model.asked] == [
        'Rate this: make the {cat} grey\n{"score": [a, b]}', "Rate the picture.",
    ]  # fmt: skip
    alone = read_wording("Which one for {instruction}?", pvc.PARTS, "mine.txt")
    assert alone.text("comparison", "x") == "Which one for x?"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"mine.txt lacks \[following\], expected \[following\] and \[quality\]"),
        ("[following]\n{instruction}", r"lacks \[quality\]"),
        ("[following]\n{instruction}\n[quality]\n \n", r"holds no text under \[quality\]"),
        (WORDING + "[quality]\nagain", r"repeats \[quality\]"),
        (WORDING.replace("<instruction>", "it"), r"\[following\] in mine.txt lacks the placeholder \{instruction\}"),
        (WORDING.replace("picture", "{picture}"), r"\[quality\] in mine.txt holds \{picture\}, which nobody fills"),
        ("Hello\n" + WORDING, r"holds text before its first part \('Hello'\)"),
        (WORDING + "[comparison]\n{instruction}", r"holds \[comparison\], which this style does not ask"),
    ],
)
def test_what_a_wording_lacks_is_named(text, said):
    with pytest.raises(ValueError, match=said):
        read_wording(text, PARTS, "mine.txt")


def test_a_wording_without_a_style_that_asks_it_is_an_error():
    with pytest.raises(ValueError, match=r"wording is 'mine.txt', but the style general asks its own questions"):
        styled_judge("general", "model", lambda *_: [], True, True, 1, (WORDING, "mine.txt"))


def test_the_cost_is_what_is_asked_at_most():
    model = Marker({seed: ([5, 5], [5, 5]) for seed in range(1, 7)})
    judge = EditScoreJudge("model", model, votes=4)
    judge.score(QUESTION, EDITS, poll)
    cost = judge.cost(QUESTION, len(EDITS), 2)
    assert (cost.questions, cost.written) == (len(model.asked), len(model.asked) * 512)
    assert "at most 64 questions" in cost_note(judge)
    assert "at most 30 questions" in cost_note(VLMJudge("model", model))
    assert cost_note(VLMJudge("model", model, checks=False, swap_order=False)).startswith("Judging 6 candidates")


def ask_server(reply, requests, **options):
    with ChatServer(reply) as server:
        endpoint = Endpoint(server.url, "a-model", timeout=60.0, backoff=0.01, parallel=1, **options)
        return endpoint.ask(requests, poll) + endpoint.ask(requests, poll), server.calls


def style_requests():
    model = Marker({1: ([5, 5], [5, 5])})
    EditScoreJudge("model", model).score(QUESTION, EDITS[:1], poll)
    return model.asked


def test_a_server_is_held_to_the_answers_schema():
    _, calls = ask_server(lambda *_: says("{}"), style_requests())
    assert len(calls) == 4
    form = calls[0].body["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"]["required"] == ["reasoning", "score"]
    assert (calls[0].body["temperature"], calls[0].body["top_p"], calls[0].body["top_k"]) == (0.7, 0.9, 20)
    content = calls[0].body["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    assert content[1]["image_url"]["url"] == data_url(EDITS[0].panel)
    # What the general style sends is as it ever was.
    _, calls = ask_server(lambda *_: says("ANSWER: 1"), [comparison(QUESTION, *EDITS[:2])])
    assert set(calls[0].body) == {"model", "messages", "temperature", "seed", "max_tokens", "stream"}


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_the_schema_is_asked_once_more_without_and_then_always(status):
    def reply(_, call):
        return Reply(b"unknown field", status) if "response_format" in call.body else says('{"score": [1, 2]}')

    answers, calls = ask_server(reply, style_requests())
    assert answers == ['{"score": [1, 2]}'] * 4
    held = ["response_format" in call.body for call in calls]
    assert sorted(held[:4]) == [False, False, True, True]
    assert held[4:] == [False, False]
    assert "top_k" not in calls[-1].body


def test_a_server_that_refuses_all_is_an_error_and_asked_with_the_schema_again():
    answers, calls = ask_server(lambda *_: Reply(b"too many pictures", 400), style_requests()[:1])
    assert all("too many pictures" in str(answer) for answer in answers)
    assert ["response_format" in call.body for call in calls] == [True, False, True, False]


def test_one_picture_with_its_names_for_servers_that_take_only_one():
    _, calls = ask_server(lambda *_: says("{}"), style_requests(), one_picture=True)
    contents = [call.body["messages"][0]["content"] for call in calls[:2]]
    assert [[part["type"] for part in content] for content in contents] == [["image_url", "text"]] * 2
    assert "in this order: SOURCE, EDIT." in contents[0][1]["text"]
    assert contents[1][0]["image_url"]["url"] == data_url(EDITS[0].panel)


@pytest.mark.host
def test_the_node_reads_the_wording_from_the_input_folder_only(host, caplog):
    from pathlib import Path

    import folder_paths
    import nodes

    folder = Path(folder_paths.get_input_directory())
    (folder / "mine.txt").write_text(WORDING, encoding="utf-8")
    (folder / "other.json").write_text(WORDING, encoding="utf-8")
    (folder / "large.txt").write_text("x" * 70_000, encoding="utf-8")
    (folder / "latin.txt").write_bytes(b"[following] \xe4")
    settings = {"base_url": "http://localhost:1/v1", "model": "m", "checks": True, "swap_order": True}
    with caplog.at_level("INFO"):
        (judge,) = host.call("EditJudgeEndpoint", **settings, style="EditScore", votes=2, wording="mine.txt")
    # Before anything is sampled.
    assert "Judging 6 candidates of 512 x 512, 2 kept for a second look: at most 32 questions" in caplog.text
    assert (judge.name, judge.votes) == ("EditScore by m at http://localhost:1/v1/chat/completions", 2)
    assert judge.wording.parts["quality"] == "Rate the picture."
    for name, said in (
        ("../secret.txt", "outside ComfyUI's input folder"), ("none.txt", "nothing of that name"),
        ("other.json", "expected the name of a .txt file"), ("large.txt", "70000 bytes"), ("latin.txt", "UTF-8"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            host.call("EditJudgeEndpoint", **settings, style="EditScore", wording=name)
    node = nodes.NODE_CLASS_MAPPINGS["EditJudgeEndpoint"]
    before = node.fingerprint_inputs(**settings, wording="mine.txt")
    (folder / "mine.txt").write_text(WORDING + "\n", encoding="utf-8")
    assert node.fingerprint_inputs(**settings, wording="mine.txt") != before
    assert node.fingerprint_inputs(**settings) == ""


@pytest.mark.host
@pytest.mark.parametrize(("style", "pictures"), [("EditScore", [2, 1]), ("PVC-Judge", [3])])
def test_qwen_on_the_host_sees_the_pictures_one_by_one(host, monkeypatch, style, pictures):
    pytest.importorskip("comfy.text_encoders.qwen3vl", reason="this ComfyUI has no Qwen3-VL")
    clip = tiny_vlm.load_qwen(monkeypatch)
    (judge,) = host.call("EditJudgeVLM", clip=clip, checks=False, swap_order=False, style=style, votes=2)
    tokenize, generate, seen, drawn = clip.tokenize, clip.generate, [], []

    def count(text, **options):
        seen.append(len(options["image"]))
        return tokenize(text, **options)

    def short(tokens, **options):
        drawn.append(options)
        return generate(tokens, **options | {"max_length": 4})

    monkeypatch.setattr(clip, "tokenize", count)
    monkeypatch.setattr(clip, "generate", short)
    if style == "EditScore":
        (verdict,) = judge.score(QUESTION, EDITS[:1], poll)
        assert verdict.score is None
        assert "0 of 2 votes" in verdict.reasons[-1]
    else:
        assert judge.compare(QUESTION, *EDITS[:2], poll).choice.value == "abstain"
    assert seen == pictures * 2
    assert {options["seed"] for options in drawn} == {0, 1}
    assert all(options["do_sample"] and options["temperature"] == 0.7 for options in drawn)


@pytest.mark.host
def test_a_model_that_looks_at_one_picture_only_is_refused_for_the_styles_that_show_more(host, monkeypatch):
    clip = tiny_vlm.load_gemma(monkeypatch)
    for style, count in (("EditScore", 2), ("PVC-Judge", 3)):
        with pytest.raises(ValueError, match=f"one picture at a time, and this style asks about {count} at once"):
            host.call("EditJudgeVLM", clip=clip, checks=False, swap_order=False, style=style)
