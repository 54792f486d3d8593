"""One of the field's benchmarks really run: its own files in, edits on a server, the scorer's tree and figures out."""

import json
from pathlib import PurePosixPath

import numpy as np
import pytest
from icedit.benchmarks.field import command
from icedit.benchmarks.field.edit import Faults, FieldEdit
from icedit.benchmarks.field.judging import judged
from icedit.early_filter.judge import Judge, JudgeError, Verdict
from PIL import Image
from support import field
from support.many import QUICK

SETS = [part for assignment in QUICK for part in ("--set", assignment)]


def run(*arguments):
    return command.main([str(one) for one in arguments])


@pytest.mark.server
def test_magicbrush_is_run_turn_by_turn_and_taken_up(server, tmp_path, capsys):
    rows = [field.brush_row(1, "30", 1), field.brush_row(11, "139", 1), field.brush_row(12, "139", 2)]
    rows.append(field.brush_row(21, "149", 1, target_img={"bytes": b"no picture", "path": None}))
    field.write_arrow(tmp_path / "data" / "dev-00000-of-00001", rows, "parquet")
    given = ("magicbrush", tmp_path / "data", "--output", tmp_path / "out", "--method", "mine", "--masks")
    given += ("--judge-pixels", "--server", server.url, "--seed", 7, *SETS)
    assert run(*given) == 0
    said = capsys.readouterr()
    assert "4 edits, 4 made, 4 written for the scorer; 1 faults." in said.out
    assert "1 x has a picture that cannot be read: session 149" in said.out and "image_eval.py" in said.out
    results = tmp_path / "out" / "results"
    sizes = {path.name: Image.open(path).size for path in (results / "mine").rglob("*.png")}
    assert sizes.keys() == {"30_1.png", "139_1.png", "139_inde_2.png", "139_iter_2.png"}
    # The second turn of one kind starts from the wanted picture, that of the other from the first turn's result.
    one, other = (np.asarray(Image.open(results / "mine/139" / f"139_{kind}_2.png")) for kind in ("inde", "iter"))
    assert (one != other).any()
    scores = json.loads((tmp_path / "out" / "scores-mine.json").read_text())
    assert scores["means"]["all turns"]["l1"]["of"] == 3 and scores["means"]["final turn"]["l2"]["of"] == 2
    assert 0 < scores["means"]["all"]["l2"]["mean"] < scores["means"]["all"]["l1"]["mean"] < 1
    assert scores["means"]["all"]["judge"]["of"] == 4 and scores["judge"] == "pixels"
    # Once more, nothing is made, nothing judged, and no server is asked.
    judged = (tmp_path / "out" / "judged" / "mine.jsonl").read_bytes()
    before = (tmp_path / "out" / "scores-mine.json").read_bytes()
    assert run(*("http://127.0.0.1:9" if one == server.url else one for one in given)) == 0
    assert (tmp_path / "out" / "judged" / "mine.jsonl").read_bytes() == judged
    assert (tmp_path / "out" / "scores-mine.json").read_bytes() == before


def test_what_does_not_go_together_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("gedit", tmp_path, "--manifest", "x.jsonl")
    assert run("gedit", "http://user:secret@host:8188", "--server", tmp_path) == 2
    assert run("pie", tmp_path / "gone") == 2
    said = capsys.readouterr().err
    assert "right after its name" in said and "secret" not in said and "There is no" in said
    field.write_imgedit(tmp_path / "bench")
    assert run("imgedit", tmp_path / "bench", "--judge-url", "http://elsewhere.example/v1", "--judge-model", "x") == 2
    assert "elsewhere.example, which is not this machine" in capsys.readouterr().err


class CountingJudge(Judge):
    """Knows what one instruction is worth, and has no answer to another."""

    name = "counting"

    def __init__(self):
        self.asked = []

    def score(self, question, edits, poll):
        self.asked.append(question.instruction)
        if question.instruction == "silence":
            raise JudgeError("the server does not answer")
        return [Verdict(broken=question.instruction == "broken", score=0.5) for _ in edits]


def test_a_judge_is_asked_once_for_a_result_and_what_it_cannot_judge_is_counted(tmp_path):
    edits, written = [], {}
    for number, instruction in enumerate(("fine", "broken", "silence", "unmade")):
        (tmp_path / f"{number}.png").write_bytes(field.picture(number))
        edits.append(FieldEdit(f"{number}", tmp_path / f"{number}.png", instruction, "add", PurePosixPath("x.png")))
        written[f"{number}"] = tmp_path / f"{number}.png"
    del written["3"]
    judge, faults, kept = CountingJudge(), Faults(), tmp_path / "judged" / "mine.jsonl"
    assert judged(judge, edits, written, kept, faults) == {"0": 0.5, "1": 0.0}
    assert faults.found == {"could not be judged: the server does not answer": ["2"]}
    with open(kept, "a") as file:
        file.write('{"judge": "coun')
    written["0"].write_bytes(field.picture(9))
    assert judged(judge, edits, written, kept, faults) == {"0": 0.5, "1": 0.0}
    assert judge.asked == ["fine", "broken", "silence", "fine", "silence"], "a new result is judged anew"
