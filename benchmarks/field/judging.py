"""Scores of one of the pack's judges, kept line by line, so that a judge is asked for a result once."""

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ...early_filter.judge import Candidate, Judge, JudgeError, Question
from ...early_filter.judges.endpoint import Endpoint
from ...early_filter.judges.pixels import PixelJudge
from ...early_filter.judges.vlm import VLMJudge
from .edit import BenchmarkError, FaultError, Faults, FieldEdit
from .pictures import opened

SCORE = "judge"


def judge_of(options: argparse.Namespace) -> Judge | None:
    """The judge that the command line names.

    Raises:
        BenchmarkError: it is not usable.
    """
    if options.judge_url is None:
        return PixelJudge() if options.judge_pixels else None
    try:
        endpoint = Endpoint(options.judge_url, options.judge_model or "")
    except ValueError as error:
        raise BenchmarkError(str(error)) from error
    return VLMJudge(f"{endpoint.model} at {endpoint.url}", endpoint.ask)


def judged(
    judge: Judge,
    edits: Sequence[FieldEdit],
    written: Mapping[str, Path],
    kept: Path,
    faults: Faults,
    on_done: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """The judge's scores by id; of edits that it has no opinion of, none.

    Args:
        kept: a file of earlier scores, which grows.
    """
    known = _known(kept, judge.name)
    scores: dict[str, float] = {}
    kept.parent.mkdir(parents=True, exist_ok=True)
    with open(kept, "a", encoding="utf-8") as file:
        for edit in edits:
            if edit.id not in written:
                continue
            digest = hashlib.sha256(written[edit.id].read_bytes()).hexdigest()
            if (edit.id, digest) not in known:
                try:
                    score = _score(judge, edit, written[edit.id])
                except (JudgeError, FaultError) as error:
                    faults.add(edit.id, f"could not be judged: {error}")
                    on_done()
                    continue
                line = {"judge": judge.name, "id": edit.id, "sha256": digest, "score": score}
                file.write(f"{json.dumps(line)}\n")
                file.flush()
                known[edit.id, digest] = score
            found = known[edit.id, digest]
            if found is not None:
                scores[edit.id] = found
            on_done()
    return scores


def _score(judge: Judge, edit: FieldEdit, file: Path) -> float | None:
    """A broken edit gets 0."""
    region = None if edit.mask is None else _tensor(edit.mask)[:, :, 0]
    question = Question(_tensor(edit.picture), edit.instruction, region)
    (verdict,) = judge.score(question, [Candidate(0, _tensor(file))], lambda: None)
    return 0.0 if verdict.broken else verdict.score


def _tensor(path: Path) -> torch.Tensor:
    """`h w 3` in 0..1."""
    return torch.from_numpy(np.array(opened(path))).float() / 255


def _known(kept: Path, name: str) -> dict[tuple[str, str], float | None]:
    found: dict[tuple[str, str], float | None] = {}
    for text in kept.read_text(encoding="utf-8").splitlines() if kept.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            # The beginning of a line, of a call that was killed.
            continue
        if line["judge"] == name:
            found[line["id"], line["sha256"]] = line["score"]
    return found
