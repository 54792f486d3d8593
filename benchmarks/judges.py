"""How often judges are right about edits of the mini models, and what that buys; prints one JSON line.

    ICEDIT_HOST=<ComfyUI> <its python> benchmarks/judges.py [--pairs N] [--edits N] [--seeds N] [--rows REGEX]
        [--store FILE]

Every edit is sampled once with every seed; previews after 2, 4 and 8 steps and the finished picture are kept, in FILE
if one is named, and judges are tried on them. `pairs`: pairs of candidates of one edit whose finished pictures differ,
the better one by the scene that must come out; the judge sees them after one of these steps. A tie is half right.
`end_to_end`: the early filter with six candidates, 4 probe steps and 2 kept; the share of edits whose winner, finished,
succeeds. Models are scripted and right as often as the row says; in `pairs` they answer over HTTP. `CLIP` has random
weights: the floor. Rows tell questions per edit, and intervals are Wilson's of 95 %.
"""

import argparse
import json
import random
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from candidates import LOOKS, Candidates, candidates
from in_process import load_host_and_pack
from mini_editbench import STEPS, told, wilson
from scripted_model import ScriptedModel, standings

MARGIN = 0.03
"""Two candidates differ when their quality does by this: 3 % of the change, or 0.6 % of the rest."""

ACCURACIES = (0.5, 0.6, 0.7, 0.8, 1.0)
STYLES = ("general", "EditScore", "EditScore 4 votes", "PVC-Judge", "PVC-Judge round robin")
CANDIDATES, PROBE_STEPS, KEEP = 6, 4, 2


def poll() -> None:
    pass


@dataclass(frozen=True)
class Pair:
    """Two candidates of one edit after `LOOKS[look]` steps; the first one comes out better."""

    edit: int
    better: int
    worse: int
    look: int


def pairs(known: Candidates, count: int) -> list[Pair]:
    """So many pairs, the same number of each look."""
    draw = random.Random(1)
    found: list[Pair] = []
    while len(found) < count:
        edit, (first, second) = draw.randrange(len(known.edits)), draw.sample(range(known.seeds), 2)
        lead = known.quality(edit, first) - known.quality(edit, second)
        if lead >= MARGIN:
            found.append(Pair(edit, first, second, len(found) % len(LOOKS)))
    return found


def preferred(judge: Any, known: Candidates, pair: Pair, swap: bool) -> float:
    """1 where the judge prefers the better one, 0 where the worse one, 1/2 for a tie."""
    from icedit.early_filter.judge import Choice

    # A judge without a model sees all candidates, as in the samplers: what is usual counts for it.
    cheap = judge.cost(known.question(pair.edit), CANDIDATES, KEEP).questions == 0
    seeds = range(known.seeds) if cheap else (pair.better, pair.worse)
    question, edits = known.question(pair.edit), [known.candidate(pair.edit, seed, pair.look) for seed in seeds]
    verdicts = dict(zip(seeds, judge.score(question, edits, poll), strict=True))
    better, worse = ((not verdicts[seed].broken, verdicts[seed].score or 0.0) for seed in (pair.better, pair.worse))
    if better != worse or not judge.compares:
        return 0.5 if better == worse else float(better > worse)
    order = [pair.worse, pair.better] if swap else [pair.better, pair.worse]
    shown = [known.candidate(pair.edit, seed, pair.look) for seed in order]
    choice = judge.compare(question, *shown, poll).choice
    if choice in (Choice.TIE, Choice.ABSTAIN):
        return 0.5
    return float((choice is Choice.FIRST) != swap)


def filtered(judge: Any, known: Candidates, edit: int) -> int:
    """The seed that the early filter chooses."""
    from icedit.early_filter.budget import Budget
    from icedit.early_filter.plan import Plan
    from icedit.early_filter.run import EarlyFilter

    plan = Plan("resume", 0, min(CANDIDATES, known.seeds), PROBE_STEPS, KEEP, STEPS)
    budget = Budget(plan, 1, lambda *_: None)
    run = EarlyFilter(plan, stored_sampler(known, edit), (judge,), known.question(edit), budget)
    return run.run().winner


def stored_sampler(known: Candidates, edit: int) -> Any:
    """What the early filter needs from a sampler, with candidates that are sampled already."""
    from icedit.early_filter.outcome import Finished
    from icedit.early_filter.run import PictureSampler

    class StoredSampler(PictureSampler[None]):
        def __init__(self) -> None:
            self.at: dict[int, int] = {}

        def probe(self, seed: int, step: int) -> int:
            done, self.at[seed] = self.at.get(seed, 0), step
            return step - done

        def previews(self, seeds: Sequence[int]) -> list[Any]:
            return [known.candidate(edit, seed, LOOKS.index(self.at[seed])) for seed in seeds]

        def finish(self, seed: int) -> Finished[None]:
            return Finished(None, STEPS - self.at[seed], STEPS)

        def forget(self, seed: int) -> None:
            del self.at[seed]

        def judgement_failed(self, failure: Any) -> None:
            raise RuntimeError(failure.error)

        def poll(self) -> None:
            pass

    return StoredSampler()


def round_robin(judge: Any) -> Any:
    """Compares all pairs and scores by wins: more questions than the early filter's running maximum asks."""
    from icedit.early_filter.judge import Choice, Judge, Verdict

    class RoundRobin(Judge):
        name = "round robin"

        def score(self, question: Any, edits: Sequence[Any], poll: Any) -> list[Verdict]:
            wins = [0.0] * len(edits)
            for first in range(len(edits)):
                for second in range(first + 1, len(edits)):
                    choice = judge.compare(question, edits[first], edits[second], poll).choice
                    wins[first] += {Choice.FIRST: 1.0, Choice.SECOND: 0.0}.get(choice, 0.5)
                    wins[second] += {Choice.FIRST: 0.0, Choice.SECOND: 1.0}.get(choice, 0.5)
            return [Verdict(score=won) for won in wins]

    return RoundRobin()


@contextmanager
def scripted(style: str, model: ScriptedModel, over_http: bool) -> Iterator[Any]:
    """A judge of a style that asks a scripted model."""
    from icedit.early_filter.judges.endpoint import Endpoint
    from icedit.early_filter.judges.styles import styled_judge
    from support.chat_server import ChatServer

    def judge(ask: Any) -> Any:
        kind, votes = style.split()[0], 4 if "4 votes" in style else 1
        made = styled_judge(kind, "scripted", ask, kind == "general", True, votes, None)
        return round_robin(made) if "round robin" in style else made

    if not over_http:
        yield judge(model.ask)
        return
    with ChatServer(model.reply) as server:
        # One after the other, so that chance falls in the same way every time.
        yield judge(Endpoint(server.url, "scripted", parallel=1).ask)


@contextmanager
def cheap(name: str) -> Iterator[Any]:
    """A judge without a model, or with one of random weights."""
    import torch
    from icedit.early_filter.judges.clip import CLIPJudge, Encoder
    from icedit.early_filter.judges.pixels import PixelJudge
    from support import tiny_clip

    if name == "pixels":
        yield PixelJudge()
        return
    with tempfile.TemporaryDirectory() as folder:
        encoder = Encoder.load(tiny_clip.write_clip(Path(folder)), lambda _: lambda: torch.device("cpu"))
        yield CLIPJudge(encoder)


@dataclass(frozen=True)
class Rows:
    """What is measured."""

    known: Candidates
    pairs: int
    wanted: re.Pattern[str]
    standings: dict[str, float] = field(repr=False)

    def _judges(self, of: str) -> Iterator[tuple[dict[str, Any], Any, ScriptedModel | None]]:
        for name in ("pixels", "CLIP"):
            if self.wanted.search(f"{of} {name}"):
                with cheap(name) as judge:
                    yield {"judge": name}, judge, None
        for style in STYLES:
            for accuracy in ACCURACIES:
                if self.wanted.search(f"{of} {style} {accuracy}"):
                    model = ScriptedModel(self.standings, accuracy)
                    with scripted(style, model, of == "pairs") as judge:
                        yield {"judge": style, "model_right": accuracy}, judge, model

    def accuracy(self) -> Iterator[dict[str, Any]]:
        chosen = pairs(self.known, self.pairs)
        for row, judge, _ in self._judges("pairs"):
            right = [preferred(judge, self.known, pair, index % 8 > 3) for index, pair in enumerate(chosen)]
            steps = {
                step: round(sum(right[look :: len(LOOKS)]) / len(right[look :: len(LOOKS)]), 3)
                for look, step in enumerate(LOOKS)
            }
            row |= {"pairs": len(chosen), "right": round(sum(right) / len(right), 3)}
            yield row | {"interval": wilson(sum(right), len(right)), "after_steps": steps, "ties": right.count(0.5)}

    def end_to_end(self) -> Iterator[dict[str, Any]]:
        known = self.known
        count, seeds = len(known.edits), range(known.seeds)
        won = [[known.checks[edit][seed].success for seed in seeds] for edit in range(count)]
        plain = sum(map(sum, won)) / known.seeds
        yield {
            "judge": "none, the mean of all seeds",
            "success": round(plain / count, 3),
            "interval": wilson(plain, count),
        }
        best = sum(map(any, won))
        yield {"judge": "one that knows the finished edits", "success": round(best / count, 3)}
        for row, judge, model in self._judges("end_to_end"):
            chosen = sum(won[edit][filtered(judge, known, edit)] for edit in range(count))
            row |= {"success": round(chosen / count, 3), "interval": wilson(chosen, count)}
            yield row | ({} if model is None else {"questions": round(model.asked / count, 1)})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--edits", type=int, default=240)
    parser.add_argument("--seeds", type=int, default=CANDIDATES)
    parser.add_argument("--rows", type=re.compile, default=re.compile(""))
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    load_host_and_pack()
    known = candidates(options.edits, options.seeds, options.store)
    rows = Rows(known, options.pairs, options.rows, standings(known))
    print(json.dumps({"pairs": told(rows.accuracy()), "end_to_end": told(rows.end_to_end())}))


if __name__ == "__main__":
    main()
