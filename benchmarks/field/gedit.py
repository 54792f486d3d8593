"""GEdit-Bench (Step1X-Edit): arrow or parquet rows; results/METHOD/fullset/TASK/LANGUAGE/KEY.png."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from .edit import ALL, CHINESE, ENGLISH, FaultError, FieldBenchmark, FieldEdit, Setting
from .pictures import save_as_png, stored
from .tables import table_files, table_rows

COLUMNS = ("key", "task_type", "instruction", "instruction_language", "input_image")
RAW = "input_image_raw"
"""The source as it was; `input_image` is what the scorer compares with, of another size."""
SOURCE = "_SRCIMG.png"


class GEditBench(FieldBenchmark):
    name = "gedit"
    tasks = frozenset(
        (
            "background_change", "color_alter", "material_alter", "motion_change", "ps_human", "style_change",
            "subject-add", "subject-remove", "subject-replace", "text_change", "tone_transfer",
        )
    )  # fmt: skip

    def read(self, setting: Setting) -> Iterator[FieldEdit]:
        for where, file, row in table_rows(table_files(setting.path), COLUMNS, setting.faults):
            try:
                if setting.language in (ALL, str(row["instruction_language"])):
                    yield self._edit(row, file, setting)
            except FaultError as fault:
                setting.faults.add(f"{where} ({row['key']})", str(fault))

    def _edit(self, row: dict[str, Any], file: Path, setting: Setting) -> FieldEdit:
        task, language, key = (str(row[name]) for name in ("task_type", "instruction_language", "key"))
        self.check_task(task)
        if language not in (ENGLISH, CHINESE):
            raise FaultError(f"has the language {language!r}, which the scorer does not know")
        name = f"{task}-{language}-{key}"
        picture = compared = stored(row["input_image"], setting.sources, f"{name}-compared", file.parent)
        if row.get(RAW):
            picture = stored(row[RAW], setting.sources, name, file.parent)
        place = PurePosixPath(setting.method, "fullset", task, language, f"{key}.png")
        return FieldEdit(name, picture, str(row["instruction"] or ""), task, place, language, truth=compared)

    def write(self, edit: FieldEdit, result: Path, results: Path) -> Path:
        target = results / edit.place
        assert edit.truth is not None
        save_as_png(edit.truth, target.with_name(f"{target.stem}{SOURCE}"))
        return save_as_png(result, target)

    def scorer(self, setting: Setting, results: Path) -> str:
        given = f"--model_name {setting.method} --save_path {results} --backbone gpt4o"
        return f"In GEdit-Bench: python test_gedit_score.py {given} && python calculate_statistics.py {given}"
