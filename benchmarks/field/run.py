"""Making a benchmark's edits by the manifests of headless/many, turn by turn, and measuring what came out."""

import itertools
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .edit import FaultError, Faults, FieldBenchmark, FieldEdit
from .pictures import write_whole

UNFINISHED = (0, 1)
"""What the command line ends with when it came to its end: all edits are made, or some failed."""

EditMain = Callable[[Sequence[str]], int]


class StoppedError(Exception):
    """The command line ended before its end, with this status; it has said why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class Given:
    """What the workflow is given beside picture and instruction."""

    masks: bool = False
    descriptions: bool = False


def first_samples(edits: Iterable[FieldEdit], limit: int | None) -> Iterator[FieldEdit]:
    """The edits of so many samples; all without a limit."""
    for number, (_, found) in enumerate(itertools.groupby(edits, key=lambda edit: edit.whole)):
        if number == limit:
            return
        yield from found


def unique(edits: Iterable[FieldEdit], faults: Faults) -> Iterator[FieldEdit]:
    """Each id and each place once; systems that take A.png and a.png for one file included."""
    ids: set[str] = set()
    for edit in edits:
        names = {edit.id.casefold(), str(edit.place).casefold()}
        if names & ids:
            faults.add(edit.id, "has the key of an earlier row")
            continue
        ids |= names
        yield edit


def make_edits(
    edits: Sequence[FieldEdit], given: Given, folder: Path, arguments: Sequence[str], main: EditMain, faults: Faults
) -> dict[str, Path]:
    """The results by id; why others failed goes to the faults. Taken up where an earlier call ended.

    Args:
        folder: for manifests and results.
        arguments: for the command line: servers, workflow, settings.

    Raises:
        StoppedError: the command line was stopped or refused to begin.
    """
    made: dict[str, Path] = {}
    for turn in sorted({edit.turn for edit in edits}):
        rows = [_row(edit, given) for edit in edits if edit.turn == turn]
        if turn > 1 and not any((folder / row["picture"]).is_file() for row in rows):
            break
        manifest, output = folder / f"turn-{turn}.jsonl", folder / f"turn-{turn}"
        write_whole(manifest, "".join(f"{json.dumps(row)}\n" for row in rows).encode())
        status = main(["--manifest", str(manifest), "--output", str(output), *arguments])
        if status not in UNFINISHED:
            raise StoppedError(status)
        for line in _lines(output / "results.jsonl"):
            if line["status"] == "ok":
                made[line["id"]] = output / line["file"]
            else:
                faults.add(line["id"], f"failed: {line['error']}")
    return made


def _row(edit: FieldEdit, given: Given) -> dict[str, str]:
    """A row of a manifest, the same one whether the edit before is made already or not."""
    picture = str(edit.picture.absolute()) if edit.after is None else f"turn-{edit.turn - 1}/{edit.after}.png"
    row = {"id": edit.id, "picture": picture, "instruction": edit.instruction}
    if given.masks and edit.mask is not None:
        row["region"] = str(edit.mask.absolute())
    if given.descriptions and edit.description:
        row["description"] = edit.description
    return row


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def write_results(
    benchmark: FieldBenchmark, edits: Sequence[FieldEdit], made: Mapping[str, Path], results: Path, faults: Faults
) -> dict[str, Path]:
    """Write the tree that the scorer expects; the files in it by id."""
    written: dict[str, Path] = {}
    for edit in benchmark.whole(edits, made):
        try:
            written[edit.id] = benchmark.write(edit, made[edit.id], results)
        except FaultError as fault:
            faults.add(f"the result of {edit.id}", str(fault))
    return written


def measured(
    benchmark: FieldBenchmark, edits: Sequence[FieldEdit], written: Mapping[str, Path], faults: Faults
) -> dict[str, dict[str, float]]:
    """The measures of each written result."""
    found: dict[str, dict[str, float]] = {}
    for edit in edits:
        if edit.id in written:
            try:
                found[edit.id] = dict(benchmark.measures(edit, written[edit.id]))
            except FaultError as fault:
                faults.add(edit.id, str(fault))
    return found


def means(edits: Sequence[FieldEdit], measures: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """By group, and of all: means over the results that have the measure, and of how many."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for edit in edits:
        for group in ("all", *edit.means):
            for name, value in measures.get(edit.id, {}).items():
                # A result that is equal in every pixel has no finite PSNR.
                if math.isfinite(value):
                    values[group][name].append(value)
    return {
        group: {name: {"mean": sum(one) / len(one), "of": len(one)} for name, one in named.items()}
        for group, named in values.items()
    }


def write_json(path: Path, found: Any) -> None:
    write_whole(path, f"{json.dumps(found, indent=1, ensure_ascii=False)}{os.linesep}".encode())
