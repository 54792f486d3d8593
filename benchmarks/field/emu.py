"""Emu Edit's test set: parquet rows; results/emu_test/METHOD/INDEX.png (and emu_val), where AnyBench's scorer looks.

Its makers published no scorer.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from .edit import FaultError, FieldBenchmark, FieldEdit, Setting
from .pictures import save_as_png, stored
from .tables import table_files, table_rows

COLUMNS = ("idx", "instruction", "image", "task", "input_caption", "output_caption")
SPLITS = {"test": "emu_test", "validation": "emu_val", "val": "emu_val"}


class EmuEditTestSet(FieldBenchmark):
    name = "emu"

    def read(self, setting: Setting) -> Iterator[FieldEdit]:
        for where, file, row in table_rows(table_files(setting.path), COLUMNS, setting.faults):
            try:
                yield self._edit(row, file, setting)
            except FaultError as fault:
                setting.faults.add(f"{where} (idx {row['idx']})", str(fault))

    def _edit(self, row: dict[str, Any], file: Path, setting: Setting) -> FieldEdit:
        # Rows say which split they are of only where the whole set was joined; else the file's name does.
        split = str(row.get("split") or re.split(r"[-_.]", file.name)[0])
        if split not in SPLITS:
            raise FaultError(f"is of the split {split!r}, which is neither test nor validation")
        name = f"{SPLITS[split]}-{row['idx']}"
        captions = [str(row[column] or "") for column in ("input_caption", "output_caption")]
        if captions[0] == captions[1]:
            # ICEdit's makers leave these out, too.
            raise FaultError("has the same caption for source and result, with which no edit can be scored")
        picture = stored(row["image"], setting.sources, name, file.parent)
        place = PurePosixPath(SPLITS[split], setting.method, f"{row['idx']}.png")
        return FieldEdit(name, picture, str(row["instruction"] or ""), str(row["task"]), place, description=captions[0])

    def write(self, edit: FieldEdit, result: Path, results: Path) -> Path:
        return save_as_png(result, results / edit.place)

    def scorer(self, setting: Setting, results: Path) -> str:
        return f"In AnyBench: link {results} as anybench/results, and run its Emu Edit evaluation for {setting.method}"
