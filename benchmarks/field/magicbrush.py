"""MagicBrush: parquet rows (dev) or the test set's folder; results/METHOD/ID/ID_1.png, ID_inde_2.png, ID_iter_2.png.

A session has up to three turns. `inde` edits the wanted picture of the turn before, `iter` the result of the turn
before. The scorer stops at sessions that are not whole, so these are left out; the wanted pictures of the others go
into results/ground_truth.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from .differences import distances
from .edit import FaultError, FieldBenchmark, FieldEdit, Setting
from .imgedit import inside, json_rows, texts
from .pictures import opened, save_as_png, save_mask, stored, there
from .tables import table_files, table_rows

COLUMNS = ("img_id", "turn_index", "source_img", "mask_img", "instruction", "target_img")
SESSIONS = "edit_sessions.json"
IMAGES = "images"
ALL_TURNS, FINAL_TURN = "all turns", "final turn"
TRUTH = "ground_truth"
TRAINING = "train-"


@dataclass(frozen=True)
class Turn:
    """One turn of a session, its pictures being files."""

    source: Path
    mask: Path
    truth: Path
    instruction: str


class MagicBrush(FieldBenchmark):
    name = "magicbrush"

    def read(self, setting: Setting) -> Iterator[FieldEdit]:
        path = setting.path if setting.path.name == SESSIONS else setting.path / SESSIONS
        sessions = _of_folder(path, setting) if path.is_file() else _of_tables(setting)
        for image, turns in sessions:
            try:
                # A session is of use as a whole only.
                yield from list(_edits(image, turns, setting))
            except FaultError as fault:
                setting.faults.add(f"session {image}", str(fault))

    def write(self, edit: FieldEdit, result: Path, results: Path) -> Path:
        assert edit.truth is not None
        save_as_png(edit.truth, results / TRUTH / edit.whole / f"{edit.whole}-output{_number(edit)}.png")
        return save_as_png(result, results / edit.place)

    def measures(self, edit: FieldEdit, file: Path) -> Mapping[str, float]:
        assert edit.truth is not None
        return distances(opened(file), opened(edit.truth))

    def scorer(self, setting: Setting, results: Path) -> str:
        return (
            f"In evaluation: python image_eval.py --generated_path {results / setting.method} --gt_path "
            f"{results / TRUTH} --caption_path CAPTIONS (local_captions.json of the test set)"
        )


def _edits(image: str, turns: Sequence[Turn], setting: Setting) -> Iterator[FieldEdit]:
    before = ""
    for number, turn in enumerate(turns, start=1):
        last = (FINAL_TURN,) if number == len(turns) else ()
        mask = _region(turn, setting.sources / f"{image}-region{number}.png")
        for kind in ("",) if number == 1 else ("inde_", "iter_"):
            name = f"{image}_{kind}{number}"
            place = PurePosixPath(setting.method, image, f"{name}.png")
            follows = kind == "iter_"
            yield FieldEdit(
                name,
                turn.source,
                turn.instruction,
                "edit",
                place,
                mask=mask,
                truth=turn.truth,
                turn=number if follows else 1,
                after=before if follows else None,
                sample=image,
                groups=last if follows else (ALL_TURNS, *(last if number == 1 else ())),
            )
        before = f"{image}_1" if number == 1 else f"{image}_iter_{number}"


def _number(edit: FieldEdit) -> str:
    return edit.id.rpartition("_")[2]


def _of_folder(path: Path, setting: Setting) -> Iterator[tuple[str, list[Turn]]]:
    """The test set, which is handed out as an archive to unpack."""
    for image, rows in json_rows(path).items():
        folder = (setting.pictures or path.parent / IMAGES) / image
        try:
            if not isinstance(rows, list) or not rows:
                raise FaultError("has no turns")
            turns = []
            for row in rows:
                source, mask, truth, instruction = texts(row, "input", "mask", "output", "instruction")
                files = [there(inside(folder, name)) for name in (source, mask, truth)]
                turns.append(Turn(files[0], files[1], files[2], instruction))
        except FaultError as fault:
            setting.faults.add(f"session {image}", str(fault))
        else:
            yield image, turns


def _of_tables(setting: Setting) -> Iterator[tuple[str, list[Turn]]]:
    files = table_files(setting.path)
    # The data set's folder has those to train on, too.
    files = [file for file in files if not file.name.startswith(TRAINING)] or files
    rows = table_rows(files, COLUMNS, setting.faults)
    for image, found in itertools.groupby(rows, key=lambda row: str(row[2]["img_id"])):
        # All of a session at once: a fault in one turn is one of the session.
        session = list(found)
        numbers = [row["turn_index"] for _, _, row in session]
        try:
            if numbers != list(range(1, len(numbers) + 1)):
                raise FaultError(f"has the turns {', '.join(map(str, numbers))}")
            turns = [_turn(image, file, row, setting.sources) for _, file, row in session]
        except FaultError as fault:
            setting.faults.add(f"session {image}", str(fault))
        else:
            yield image, turns


def _turn(image: str, file: Path, row: dict[str, Any], sources: Path) -> Turn:
    if not image.isalnum():
        raise FaultError("has an id that is no name for a file")
    parts = (("source_img", "input"), ("mask_img", "mask"), ("target_img", "output"))
    pictures = [stored(row[name], sources, f"{image}-{part}{row['turn_index']}", file.parent) for name, part in parts]
    return Turn(pictures[0], pictures[1], pictures[2], str(row["instruction"] or ""))


def _region(turn: Turn, target: Path) -> Path:
    """Its mask is the source with a hole: transparent, or white where it was saved without transparency."""
    if target.exists():
        return target
    opened(turn.mask)
    with Image.open(turn.mask) as picture:
        clear = np.asarray(picture.convert("RGBA"))
    hole = clear[:, :, 3] == 0
    return save_mask(hole if hole.any() else (clear[:, :, :3] == 255).all(axis=2), target)
