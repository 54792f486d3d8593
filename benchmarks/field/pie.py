"""PIE-Bench (PnP Inversion): mapping_file.json with masks as runs; results/METHOD/annotation_images/PATH."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .differences import outside
from .edit import FaultError, FieldBenchmark, FieldEdit, Setting
from .imgedit import inside, json_rows, listed, texts
from .pictures import opened, save_as_jpeg, save_as_png, save_mask, there

LISTS = ("mapping_file.json",)
IMAGES = "annotation_images"
SIDE = 512
"""Of every picture and mask."""


class PIEBench(FieldBenchmark):
    name = "pie"
    tasks = frozenset(map(str, range(10)))

    def read(self, setting: Setting) -> Iterator[FieldEdit]:
        path = listed(setting.path, LISTS)
        for key, row in json_rows(path).items():
            try:
                yield self._edit(key, row, setting.pictures or path.parent / IMAGES, setting)
            except FaultError as fault:
                setting.faults.add(key, str(fault))

    def _edit(self, key: str, row: Any, pictures: Path, setting: Setting) -> FieldEdit:
        name, instruction, task, shown = texts(
            row, "image_path", "editing_instruction", "editing_type_id", "original_prompt"
        )
        self.check_task(task)
        mask = decoded(row.get("mask"))
        picture = there(inside(pictures, name))
        place = PurePosixPath(setting.method, IMAGES, name)
        description = shown.replace("[", "").replace("]", "")
        FieldEdit(key, picture, instruction, task, place)
        file = save_mask(mask, setting.sources / f"{key}-mask.png")
        return FieldEdit(key, picture, instruction, task, place, mask=file, description=description)

    def write(self, edit: FieldEdit, result: Path, results: Path) -> Path:
        """At the source's size, which the scorer wants; it cuts results that are no squares."""
        target = results / edit.place
        picture, size = opened(result), opened(edit.picture).size
        if picture.size == size and target.suffix.lower() == ".png":
            return save_as_png(result, target)
        return save_as_jpeg(picture if picture.size == size else picture.resize(size), target)

    def measures(self, edit: FieldEdit, file: Path) -> Mapping[str, float]:
        assert edit.mask is not None
        source, result = opened(edit.picture), opened(file)
        mask = np.asarray(opened(edit.mask))[:, :, 0] > 0
        if mask.shape != (source.height, source.width):
            raise FaultError(f"has a picture of {source.width} x {source.height} and a mask of {SIDE} x {SIDE}")
        return outside(source, result, mask.astype(np.float32))

    def scorer(self, setting: Setting, results: Path) -> str:
        folder, path = results / setting.method / IMAGES, listed(setting.path, LISTS)
        return (
            f"In PnPInversion: name {folder} in all_tgt_image_folders of evaluation/evaluate.py as {setting.method!r}, "
            f"then python evaluation/evaluate.py --annotation_mapping_file {path} --tgt_methods {setting.method}"
        )


def decoded(runs: Any) -> np.ndarray:
    """The mask `512 512` of 0 and 1: pairs of a start and a length, row by row; its border counts as part of it, as in
    the benchmark's own evaluation.

    Raises:
        FaultError: it is none.
    """
    numbers = isinstance(runs, list) and all(isinstance(one, int) and one >= 0 for one in runs)
    if not numbers or len(runs) % 2:
        raise FaultError("has a mask that is no list of starts and lengths")
    mask = np.zeros(SIDE * SIDE, dtype=np.uint8)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        mask[start : start + length] = 1
    mask = mask.reshape(SIDE, SIDE)
    mask[[0, -1], :] = 1
    mask[:, [0, -1]] = 1
    return mask
