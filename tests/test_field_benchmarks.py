"""The field's benchmarks: their published layouts are read, and results are where their scorers look for them."""

import io
import json
import sys

import numpy as np
import pytest
from icedit.benchmarks.field.command import BENCHMARKS
from icedit.benchmarks.field.edit import BenchmarkError, Faults, Setting
from icedit.benchmarks.field.pie import decoded
from icedit.benchmarks.field.run import first_samples, means, measured, unique, write_results
from PIL import Image
from support import field

BROKEN = {"bytes": b"no picture", "path": None}


def read(name, path, tmp_path, **values):
    """The benchmark's edits and its setting."""
    setting = Setting(path, tmp_path / "sources", "mine", Faults(), **values)
    return list(unique(BENCHMARKS[name].read(setting), setting.faults)), setting


def results_of(edits, folder, size=(40, 40)):
    """A picture of its own for each edit, as a server made it."""
    folder.mkdir()
    made = {edit.id: folder / f"{edit.id}.png" for edit in edits}
    for number, path in enumerate(made.values()):
        path.write_bytes(field.picture(100 + number, *size))
    return made


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("form", ["stream", "file", "parquet"])
def test_gedit(tmp_path, form):
    rows = [
        field.gedit_row(1, "aa"),
        field.gedit_row(2, "bb", language="cn"),
        field.gedit_row(3, "cc", task="juggling"),
        field.gedit_row(4, "dd", input_image=BROKEN),
        field.gedit_row(5, "aa"),
        field.gedit_row(6, "ee", instruction=" "),
        field.gedit_row(7, "../ff"),
    ]
    field.write_arrow(tmp_path / "GEdit-Bench" / "data-00000-of-00001", rows, form)
    edits, setting = read("gedit", tmp_path / "GEdit-Bench", tmp_path)
    assert [(edit.id, edit.instruction, edit.task) for edit in edits] == [
        ("subject-add-en-aa", "add aa", "subject-add")
    ]
    assert Image.open(edits[0].picture).size == (96, 64), "the raw source is edited"
    said = " ".join(setting.faults.lines())
    for part in ("the task 'juggling'", "cannot be read", "the key of an earlier row", "no instruction", "no name"):
        assert part in said
    assert setting.faults.count == 5
    both, _ = read("gedit", tmp_path / "GEdit-Bench", tmp_path, language="all")
    assert len(both) == 2
    written = write_results(
        BENCHMARKS["gedit"], both, results_of(both, tmp_path / "made"), tmp_path / "results", Faults()
    )
    assert tree(tmp_path / "results") == [
        "mine/fullset/subject-add/cn/bb.png",
        "mine/fullset/subject-add/cn/bb_SRCIMG.png",
        "mine/fullset/subject-add/en/aa.png",
        "mine/fullset/subject-add/en/aa_SRCIMG.png",
    ]
    compared = Image.open(tmp_path / "results" / "mine/fullset/subject-add/en/aa_SRCIMG.png")
    assert (
        compared.format == "PNG"
        and compared.tobytes() == Image.open(io.BytesIO(rows[0]["input_image"]["bytes"])).tobytes()
    )
    assert len(written) == 2 and "--model_name mine" in BENCHMARKS["gedit"].scorer(setting, tmp_path)


def test_imgedit(tmp_path):
    field.write_imgedit(
        tmp_path / "bench",
        gone={"id": "animal/z.jpg", "prompt": "x", "edit_type": "add"},
        out={"id": "../secret.jpg", "prompt": "x", "edit_type": "add"},
        odd={"id": "style/b.jpg", "prompt": "x", "edit_type": "dance"},
        less={"id": "style/b.jpg"},
    )
    edits, setting = read("imgedit", tmp_path / "bench", tmp_path)
    assert {edit.id: edit.task for edit in edits} == {"1082": "adjust", "673": "style", "97": "add"}
    assert setting.faults.found == {
        "names a picture that is not there": ["gone"],
        "names a picture outside its folder": ["out"],
        "has the task 'dance', which the scorer does not know": ["odd"],
        "has no text prompt, edit_type": ["less"],
    }
    made = results_of(edits, tmp_path / "made")
    # Whatever a workflow saves, the scorer gets a PNG of that name.
    Image.open(made["97"]).save(tmp_path / "made" / "97.webp", lossless=True)
    made["97"] = tmp_path / "made" / "97.webp"
    del made["673"]
    write_results(BENCHMARKS["imgedit"], edits, made, tmp_path / "results", setting.faults)
    assert tree(tmp_path / "results") == ["mine/1082.png", "mine/97.png"]
    assert Image.open(tmp_path / "results" / "mine/97.png").format == "PNG"
    assert read("imgedit", tmp_path / "bench" / "basic_edit.json", tmp_path)[0] == edits


def brush_rows():
    return [
        field.brush_row(1, "30", 1),
        field.brush_row(11, "139", 1), field.brush_row(12, "139", 2), field.brush_row(13, "139", 3),
        field.brush_row(21, "149", 1), field.brush_row(22, "149", 3),
        field.brush_row(31, "151", 1), field.brush_row(32, "151", 2, target_img=BROKEN),
    ]  # fmt: skip


BRUSH_TREE = [
    "ground_truth/139/139-output1.png", "ground_truth/139/139-output2.png", "ground_truth/139/139-output3.png",
    "ground_truth/30/30-output1.png", "mine/139/139_1.png", "mine/139/139_inde_2.png", "mine/139/139_inde_3.png",
    "mine/139/139_iter_2.png", "mine/139/139_iter_3.png", "mine/30/30_1.png",
]  # fmt: skip


def test_magicbrush(tmp_path):
    field.write_arrow(tmp_path / "data" / "dev-00000-of-00001", brush_rows(), "parquet")
    field.write_arrow(tmp_path / "data" / "train-00000-of-00051", [field.brush_row(41, "200", 1)], "parquet")
    edits, setting = read("magicbrush", tmp_path / "data", tmp_path)
    assert {edit.id: (edit.turn, edit.after) for edit in edits} == {
        "30_1": (1, None), "139_1": (1, None), "139_inde_2": (1, None), "139_iter_2": (2, "139_1"),
        "139_inde_3": (1, None), "139_iter_3": (3, "139_iter_2"),
    }  # fmt: skip
    assert setting.faults.found == {
        "has the turns 1, 3": ["session 149"],
        "has a picture that cannot be read": ["session 151"],
    }
    assert [edit.id for edit in first_samples(edits, 1)] == ["30_1"]
    mask = np.asarray(Image.open(edits[0].mask))
    assert (mask == 255).sum() == 8 * 16 and mask[8, 8] == 255
    made, bench = results_of(edits, tmp_path / "made"), BENCHMARKS["magicbrush"]
    written = write_results(bench, edits, made, tmp_path / "results", setting.faults)
    assert tree(tmp_path / "results") == sorted(BRUSH_TREE)
    found = means(edits, measured(bench, edits, written, setting.faults))
    assert found["all turns"]["l1"]["of"] == 4 and found["final turn"]["l1"]["of"] == 2
    truth = np.asarray(Image.open(edits[0].truth), dtype=np.float64) / 255
    result = np.asarray(Image.open(made["30_1"]).resize((48, 48)), dtype=np.float64) / 255
    alone = measured(bench, edits[:1], written, setting.faults)["30_1"]
    assert alone == pytest.approx({"l1": np.abs(result - truth).mean(), "l2": ((result - truth) ** 2).mean()}, rel=1e-5)
    # The scorer stops at a session that is not whole.
    del made["139_iter_2"]
    assert set(write_results(bench, edits, made, tmp_path / "less", setting.faults)) == {"30_1"}
    assert tree(tmp_path / "less") == ["ground_truth/30/30-output1.png", "mine/30/30_1.png"]


def test_magicbrush_test_set_as_unpacked(tmp_path):
    sessions, root = {}, tmp_path / "test"
    for row in brush_rows()[:4]:
        image, turn = row["img_id"], row["turn_index"]
        names = {
            "input": f"{image}-input.png",
            "mask": f"{image}-mask{turn}.png",
            "output": f"{image}-output{turn}.png",
        }
        for name, column in zip(names.values(), ("source_img", "mask_img", "target_img"), strict=True):
            (root / "images" / image).mkdir(parents=True, exist_ok=True)
            (root / "images" / image / name).write_bytes(row[column]["bytes"])
        sessions.setdefault(image, []).append({**names, "instruction": row["instruction"]})
    sessions["7"] = [{"input": "7-input.png", "mask": "7-mask1.png", "output": "7-output1.png", "instruction": "x"}]
    (root / "edit_sessions.json").write_text(json.dumps(sessions))
    edits, setting = read("magicbrush", root, tmp_path)
    assert setting.faults.found == {"names a picture that is not there": ["session 7"]}
    made = results_of(edits, tmp_path / "made")
    write_results(BENCHMARKS["magicbrush"], edits, made, tmp_path / "results", setting.faults)
    assert tree(tmp_path / "results") == sorted(BRUSH_TREE)


def test_pie(tmp_path):
    rows = {f"{seed:012d}": field.pie_row(seed) for seed in range(2)}
    rows |= {
        "000000000002": field.pie_row(2, editing_type_id="77"), "000000000003": field.pie_row(3, mask="0 5"),
        "000000000004": field.pie_row(4, mask=[1, 2, 3]),
    }  # fmt: skip
    field.write_pie(tmp_path / "data", rows)
    edits, setting = read("pie", tmp_path / "data", tmp_path)
    assert [(edit.id, edit.instruction, edit.description) for edit in edits] == [
        ("000000000000", "make it square", "a round cake"), ("000000000001", "make it square", "a round cake"),
    ]  # fmt: skip
    assert sorted(map(len, setting.faults.found.values())) == [1, 2]
    bench = BENCHMARKS["pie"]
    made = results_of(edits, tmp_path / "made", (256, 256))
    # The second comes back as it was, but for its region.
    pixels = np.array(Image.open(edits[1].picture))
    pixels[100:102, 100:150] = 0
    Image.fromarray(pixels).save(made[edits[1].id])
    written = write_results(bench, edits, made, tmp_path / "results", setting.faults)
    assert tree(tmp_path / "results") == [
        f"mine/annotation_images/0_random_140/{edit.id}.jpg" for edit in edits
    ]  # fmt: skip
    for file in written.values():
        assert (Image.open(file).format, Image.open(file).size) == ("JPEG", (512, 512))
    first, second = measured(bench, edits, written, setting.faults).values()
    source, result = (
        np.asarray(Image.open(path).convert("RGB"), dtype=np.float64) / 255
        for path in (edits[0].picture, written[edits[0].id])
    )
    kept = 1 - decoded(rows["000000000000"]["mask"])[:, :, None]
    mse = (((source - result) * kept) ** 2).mean()
    assert first["mse_outside"] == pytest.approx(mse, rel=1e-5)
    assert first["psnr_outside"] == pytest.approx(-10 * np.log10(mse), rel=1e-5)
    assert first["ssim_outside"] < 0.5 < 0.99 < second["ssim_outside"]
    assert second["psnr_outside"] > 30 > first["psnr_outside"]


def test_pie_masks_are_runs_along_the_rows():
    mask = decoded([512 * 100 + 500, 20, 512 * 512 - 5, 100])
    assert mask[100, 500:].all() and mask[101, 1:8].all() and not mask[101, 8:511].any()
    assert mask[0].all() and mask[-1].all() and mask[:, 0].all() and mask[:, -1].all()


def test_emu(tmp_path):
    rows = [field.emu_row(1, 5), field.emu_row(2, 6, output_caption="a hill"), field.emu_row(3, 7, image=BROKEN)]
    field.write_arrow(tmp_path / "data" / "test-00000-of-00001", rows, "parquet")
    field.write_arrow(tmp_path / "data" / "validation-00000-of-00001", [field.emu_row(4, 5)], "parquet")
    field.write_arrow(tmp_path / "data" / "zz", [{"other": 1}], "parquet")
    (tmp_path / "data" / "test-torn.parquet").write_bytes(b"PAR1 torn")
    edits, setting = read("emu", tmp_path / "data", tmp_path)
    assert [edit.id for edit in edits] == ["emu_test-5", "emu_val-5"]
    assert setting.faults.count == 4
    write_results(BENCHMARKS["emu"], edits, results_of(edits, tmp_path / "made"), tmp_path / "results", setting.faults)
    assert tree(tmp_path / "results") == ["emu_test/mine/5.png", "emu_val/mine/5.png"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_what_is_not_the_benchmark_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchmarkError, match="name the f"):
        read(name, tmp_path / "empty", tmp_path)


def test_without_pyarrow_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    field.write_arrow(tmp_path / "data" / "train", [field.gedit_row(1, "aa")], "stream")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BenchmarkError, match="pip install pyarrow"):
        read("gedit", tmp_path / "data", tmp_path)
