"""ImgEdit-Bench, its Basic part: a JSON of edits and a folder of pictures; results/METHOD/KEY.png."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .edit import BenchmarkError, FaultError, FieldBenchmark, FieldEdit, Setting
from .pictures import save_as_png, there

LISTS = ("basic_edit.json", "singleturn.json")


class ImgEditBench(FieldBenchmark):
    name = "imgedit"
    # An earlier list says alter where the later one says adjust.
    tasks = frozenset(
        ("add", "adjust", "alter", "extract", "replace", "remove", "background", "style", "compose", "action")
    )

    def read(self, setting: Setting) -> Iterator[FieldEdit]:
        path = listed(setting.path, LISTS)
        for key, row in json_rows(path).items():
            try:
                yield self._edit(key, row, setting.pictures or path.parent, setting)
            except FaultError as fault:
                setting.faults.add(key, str(fault))

    def _edit(self, key: str, row: Any, pictures: Path, setting: Setting) -> FieldEdit:
        name, instruction, task = texts(row, "id", "prompt", "edit_type")
        self.check_task(task)
        place = PurePosixPath(setting.method, f"{key}.png")
        return FieldEdit(key, there(inside(pictures, name)), instruction, task, place)

    def write(self, edit: FieldEdit, result: Path, results: Path) -> Path:
        return save_as_png(result, results / edit.place)

    def scorer(self, setting: Setting, results: Path) -> str:
        path, folder = listed(setting.path, LISTS), results / setting.method
        pictures = setting.pictures or path.parent
        judge = (
            f"--result_img_folder {folder} --edit_json {path} --origin_img_root {pictures} --prompts_json prompts.json"
        )
        average = f"--result_json {folder / 'result.json'} --average_score_json average.json"
        types = f"--average_score_json average.json --basic_edit {path} --typescore_json types.json"
        return (
            f"In Benchmark/Basic: python basic_bench.py {judge} && python step1_get_avgscore.py {average} "
            f"&& python step2_typescore.py {types}"
        )


def listed(path: Path, names: tuple[str, ...]) -> Path:
    """The list of edits: the path, or one of the names in the folder.

    Raises:
        BenchmarkError: there is none.
    """
    found = [path] if path.is_file() else [path / name for name in names if (path / name).is_file()]
    if not found:
        raise BenchmarkError(f"{path} has no {' or '.join(names)}: name the folder with it, or the file.")
    return found[0]


def json_rows(path: Path) -> Mapping[str, Any]:
    """The rows by their keys.

    Raises:
        BenchmarkError: it is no JSON object.
    """
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise BenchmarkError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise BenchmarkError(f"{path} is no JSON object of edits by their keys.")
    return found


def texts(row: Any, *names: str) -> list[str]:
    """The row's texts of these names.

    Raises:
        FaultError: one is missing.
    """
    if not isinstance(row, dict):
        raise FaultError("is no JSON object")
    missing = [name for name in names if not isinstance(row.get(name), str)]
    if missing:
        raise FaultError(f"has no text {', '.join(missing)}")
    return [row[name] for name in names]


def inside(folder: Path, name: str) -> Path:
    """A file of the folder.

    Raises:
        FaultError: the name leads out of it.
    """
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise FaultError("names a picture outside its folder")
    return folder / name
