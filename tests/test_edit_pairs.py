"""Pairs to train on: lists in all layouts, what is wrong with them, panels. Without a running host."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from icedit.training.pairs.buckets import bucket_of, fitted
from icedit.training.pairs.crops import Crop
from PIL import Image
from support.edit_pairs import every, inverted_png, load, picture, png


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Twenty pairs in two folders."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    for number in range(20):
        (before / f"{number:02}.png").write_bytes(png(number))
        (after / f"{number:02}.png").write_bytes(png(100 + number))
        (after / f"{number:02}.txt").write_text(f"make it {number}\nturn it into {number}\n")
    return before, after


class TestFolders:
    def test_every_line_of_a_text_is_an_instruction_and_pictures_come_exactly(self, folders):
        loaded = load(*folders)
        pair = next(pair for pair in every(loaded.pairs) if pair.id == "07")
        assert pair.instructions == ("make it 7", "turn it into 7")
        for read, seed in zip(loaded.pairs.pictures(pair), (7, 107), strict=True):
            assert torch.equal((read * 255).round().byte(), torch.from_numpy(np.array(picture(seed))))
        assert "18 pairs to train on, 2 held out, 40 instructions" in loaded.report

    def test_one_instruction_serves_the_pairs_without_a_text(self, folders):
        (folders[1] / "03.txt").unlink()
        loaded = load(*folders, instruction="retouch the skin")
        texts = {pair.id: pair.instructions for pair in every(loaded.pairs)}
        assert texts["03"] == ("retouch the skin",)
        assert texts["04"] == ("make it 4", "turn it into 4")

    def test_all_that_is_wrong_is_said_at_once(self, folders):
        before, after = folders
        (before / "00.png").unlink()
        (after / "01.png").unlink()
        (after / "02.txt").unlink()
        (after / "03.txt").write_text(" \n")
        (after / "04.png").write_bytes(png(4, 64, 48))
        (before / "05.png").write_bytes(png(5)[:-500])
        (after / "06.png").write_bytes(png(6))
        (after / "07.txt").write_bytes("r\xf6ter".encode("latin-1"))
        (before / "08.jpg").write_bytes(png(8))
        for name in ("png", "txt"):
            (after / f"09.{name}").write_bytes((after / f"10.{name}").read_bytes())
        (before / "09.png").write_bytes(png(10))
        with pytest.raises(ValueError) as caught:
            load(*folders)
        said = str(caught.value)
        assert said.startswith("10 of 20 pairs cannot be used:")
        for line in (
            "1 without the source picture: 00.png",
            "1 without the edited picture: 01.png",
            "2 without an instruction: 02 (no 02.txt beside it); 03 (03.txt is empty)",
            "1 with pictures of different proportions: 04 (64 x 64 and 64 x 48)",
            "1 with a picture that cannot be read: 05 (The picture '05.png'",
            "1 with the very same picture before and after: 06",
            "1 with a text that cannot be read: 07.txt (save it as UTF-8)",
            "1 with more than one file of the same name: 08.jpg and 08.png",
            "1 that are there already: 10 (the same as 09)",
        ):
            assert line in said
        loaded = load(*folders, on_problems="skip")
        assert len(every(loaded.pairs)) == 10
        assert "left out, 10 pairs" in loaded.report

    def test_many_problems_of_a_kind_are_counted(self, folders):
        for text in folders[1].glob("*.txt"):
            text.unlink()
        with pytest.raises(
            ValueError, match=r"20 without an instruction: 00 .*; 04 \(no 04.txt beside it\); and 15 more"
        ):
            load(*folders, on_problems="skip")

    def test_a_truncated_jpeg_is_found(self, folders):
        file = io.BytesIO()
        picture(0, 256, 256).save(file, "JPEG")
        for folder in folders:
            (folder / "00.png").unlink()
        (folders[0] / "00.jpg").write_bytes(file.getvalue()[:-2000])
        (folders[1] / "00.jpg").write_bytes(file.getvalue())
        with pytest.raises(ValueError, match="cannot be read: 00"):
            load(*folders)

    def test_pictures_are_upright_before_they_are_compared(self, folders):
        exif = Image.Exif()
        exif[0x0112] = 6
        picture(0, 96, 64).save(folders[0] / "00.png", exif=exif)
        (folders[1] / "00.png").write_bytes(png(1, 64, 96))
        pairs = load(*folders, held_out=0).pairs
        assert pairs.bucket(pairs[0]) == (80, 48)
        source, _ = pairs.pictures(pairs[0])
        assert source.shape == (80, 48, 3)

    def test_a_folder_without_pictures(self, folders, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match="no picture in the folder 'empty'"):
            load(folders[0], tmp_path / "empty")
        with pytest.raises(ValueError, match="name the edited ones' folder, too"):
            load(folders[0])


class TestLists:
    def write(self, folder: Path, name: str, rows: list[dict]) -> Path:
        path = folder / name
        if name.endswith(".jsonl"):
            path.write_text("\n".join(map(json.dumps, rows)))
        elif name.endswith(".json"):
            path.write_text(json.dumps(rows))
        else:
            names = list(rows[0])
            lines = [";".join(names), *(";".join(f'"{row[name]}"' for name in names) for row in rows)]
            path.write_text("\n".join(lines), encoding="utf-8-sig")
        return path

    def rows(self, source="source", edited="edited", instruction="instruction"):
        return [
            {source: f"before/{n:02}.png", edited: f"after/{n:02}.png", instruction: f"make it {n}"} for n in range(20)
        ]

    @pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.json", "pairs.csv"])
    @pytest.mark.parametrize(
        "names", [(), ("control_path", "image_path", "caption"), ("source_img", "target_img", "edit_prompt")], ids=str
    )
    def test_all_layouts_and_names_give_the_same_pairs(self, folders, tmp_path, name, names):
        pairs = load(self.write(tmp_path, name, self.rows(*names))).pairs
        assert [pair.instructions for pair in every(pairs)] == [(f"make it {n}",) for n in range(20)]
        by_folder = load(*folders).pairs
        last = every(pairs)[19], every(by_folder)[19]
        for one, other in zip(pairs.pictures(last[0]), by_folder.pictures(last[1]), strict=True):
            assert torch.equal(one, other)

    def test_kinds_weights_and_several_instructions(self, folders, tmp_path):
        rows = self.rows()
        rows[0] |= {"instruction": ["make it zero", "make it\nzero", ""], "task": "number", "weight": 2.5}
        rows.append({**rows[1], "instruction": "one, please"})
        first, second, *_ = every(load(self.write(tmp_path, "p.jsonl", rows)).pairs)
        assert (first.instructions, first.task, first.weight) == (("make it zero",), "number", 2.5)
        assert (second.instructions, second.task, second.weight) == (("make it 1", "one, please"), None, 1.0)

    def test_an_id_of_its_own(self, folders, tmp_path):
        rows = [{**row, "id": number} for number, row in enumerate(self.rows())]
        rows[1]["id"] = 0
        with pytest.raises(ValueError, match=r"1 with a line that cannot be used: line 2 \(another pair has the id 0"):
            load(self.write(tmp_path, "p.jsonl", rows))
        rows[1]["id"] = "1"
        assert {pair.id for pair in every(load(self.write(tmp_path, "p.jsonl", rows)).pairs)} == set(
            map(str, range(20))
        )

    def test_a_cell_with_several_lines_holds_several_instructions(self, folders, tmp_path):
        rows = self.rows()
        rows[0]["instruction"] = "make it zero\nzero, please"
        first, *_ = every(load(self.write(tmp_path, "p.csv", rows)).pairs)
        assert first.instructions == ("make it zero", "zero, please")

    def test_all_that_is_wrong_is_said_at_once(self, folders, tmp_path):
        outside = tmp_path.parent / f"{tmp_path.name}_secret.png"
        outside.write_bytes(png(0))
        rows = self.rows()
        rows[0]["source"] = f"../{outside.name}"
        rows[1]["edited"] = str(outside)
        rows[2]["source"] = "before/nothing.png"
        rows[3]["instruction"] = 7
        rows[4]["weight"] = -1
        rows[5] = rows[6]
        rows[7]["edited"] = None
        rows[8]["source"] = "x" * 5000
        path = self.write(tmp_path, "p.jsonl", rows)
        path.write_text(path.read_text() + "\n{broken\n[1, 2]")
        with pytest.raises(ValueError) as caught:
            load(path, within=tmp_path)
        said = str(caught.value)
        assert said.startswith("10 of 22 pairs cannot be used:")
        for line in (
            f"2 with a file outside the folder that may be read: line 1 (../{outside.name}); line 2 ({outside}",
            "2 without the source picture: line 3 (there is no file before/nothing.png); line 9",
            "line 4 (instruction is 7",
            "line 5 (weight is -1",
            "line 21 (it is no JSON); line 22",
            "1 that are there already: line 7 (after/06.png from before/06.png)",
            "1 without the edited picture: line 8 (edited is None)",
        ):
            assert line in said
        assert "outside" not in str(load(path, on_problems="skip").report), "no folder is set"

    def test_a_list_without_a_column_names_those_it_has(self, folders, tmp_path):
        with pytest.raises(ValueError, match=r"no column edited \(or image_path.*Its columns: source, b, instruction"):
            load(self.write(tmp_path, "p.jsonl", self.rows(edited="b")))
        rows = [{**row, "control_path_1": "x.png"} for row in self.rows("control_path_0", "image_path", "caption")]
        with pytest.raises(ValueError, match="a second picture to start from"):
            load(self.write(tmp_path, "p.jsonl", rows))


class TestHeldOut:
    def test_a_tenth_at_most_eight_or_as_many_as_asked(self, folders):
        assert len(load(*folders).pairs.held_out) == 2
        assert len(load(*folders, held_out=5).pairs.held_out) == 5
        assert load(*folders, held_out=0).pairs.held_out == ()
        with pytest.raises(ValueError, match="held_out is 20, but there are 20 pairs"):
            load(*folders, held_out=20)

    def test_most_stay_held_out_when_pairs_go(self, folders):
        before = {pair.id for pair in load(*folders, held_out=8).pairs.held_out}
        for folder in folders:
            for file in folder.glob("0[0-4].*"):
                file.unlink()
        after = {pair.id for pair in load(*folders, held_out=8).pairs.held_out}
        assert {id for id in before if id > "04"} <= after

    def test_a_picture_with_several_edits_is_held_out_or_trained_on_as_a_whole(self, folders):
        for number in range(0, 20, 2):
            (folders[0] / f"{number + 1:02}.png").write_bytes(png(number))
        loaded = load(*folders, held_out=5)
        held, trained = ({int(pair.id) // 2 for pair in part} for part in (loaded.pairs.held_out, loaded.pairs))
        assert len(loaded.pairs.held_out) == 4
        assert not held & trained
        assert "Held-out" not in loaded.report

    def test_several_turns_stay_together(self, folders):
        for number in range(0, 20, 2):
            (folders[0] / f"{number + 1:02}.png").write_bytes(png(100 + number))
        loaded = load(*folders, held_out=4)
        held, trained = ({int(pair.id) // 2 for pair in part} for part in (loaded.pairs.held_out, loaded.pairs))
        assert len(loaded.pairs.held_out) == 4
        assert not held & trained

    def test_edits_of_one_picture_are_held_out_one_by_one_and_the_report_says_it(self, folders):
        for number in range(20):
            (folders[0] / f"{number:02}.png").write_bytes(png(0))
        loaded = load(*folders, held_out=3)
        assert len(loaded.pairs.held_out) == 3
        assert "Held-out pairs show pictures that are trained on" in loaded.report


class TestCrops:
    def test_both_pictures_are_cut_alike_and_the_same_way_again(self, folders):
        for number in range(20):
            (folders[1] / f"{number:02}.png").write_bytes(inverted_png(number))
        first, again = (load(*folders, crops=3, held_out=2).pairs for _ in range(2))
        assert len(first) == 18 * 4
        crops = [pair for pair in first if pair.id.startswith("07")]
        for pair in crops:
            source, edited = first.pictures(pair)
            assert torch.allclose(source, 1 - edited, atol=0.02)
            assert torch.equal(source, again.pictures(pair)[0])
        sources = [first.pictures(pair)[0] for pair in crops]
        assert not any(torch.equal(sources[0], other) for other in sources[1:])

    def test_they_are_parts_of_the_picture_and_stay_large(self):
        for number in range(200):
            crop = Crop.random("x", number)
            assert 0.88 <= crop.side <= 1
            assert min(crop.top, crop.left) >= 0 and max(crop.top, crop.left) + crop.side <= 1
            part = crop.of(torch.arange(50.0)[:, None, None].expand(50, 40, 3))
            assert part.shape[0] == pytest.approx(crop.side * 50, abs=1)
            assert part[0, 0, 0] == pytest.approx(crop.top * 50, abs=1)

    def test_a_pair_is_drawn_as_often_as_without_and_none_is_held_out(self, folders):
        loaded = load(*folders, crops=3, held_out=2)
        plain = {pair.id: pair.weight for pair in load(*folders, held_out=2).pairs}
        for id, weight in plain.items():
            assert sum(pair.weight for pair in loaded.pairs if pair.id.startswith(id)) == pytest.approx(weight)
        assert [pair.id for pair in loaded.pairs.held_out] == [p.id for p in load(*folders, held_out=2).pairs.held_out]
        assert "18 pairs to train on, 2 held out" in loaded.report
        assert "each of them also in 3 random crops" in loaded.report
        with pytest.raises(ValueError, match="crops is -1"):
            load(*folders, crops=-1)


class TestFingerprint:
    def test_it_stays_and_changes_with_everything(self, folders):
        seen = [load(*folders).pairs.fingerprint]
        assert load(*folders).pairs.fingerprint == seen[0]
        seen.append(load(*folders, held_out=3).pairs.fingerprint)
        seen.append(load(*folders, panel_size=128).pairs.fingerprint)
        seen.append(load(*folders, crops=1).pairs.fingerprint)
        (folders[1] / "00.png").write_bytes(png(999))
        seen.append(load(*folders).pairs.fingerprint)
        (folders[1] / "00.txt").write_text("something else")
        seen.append(load(*folders).pairs.fingerprint)
        for folder in folders:
            (folder / "01.png").rename(folder / "1.png")
        (folders[1] / "01.txt").rename(folders[1] / "1.txt")
        seen.append(load(*folders).pairs.fingerprint)
        assert len(set(seen)) == 7


class TestBuckets:
    @pytest.mark.parametrize("size", [64, 512, 768])
    @pytest.mark.parametrize("ratio", [(1, 1), (3, 2), (4, 3), (16, 9), (2, 1), (3, 1)], ids=str)
    def test_proportions_and_area_are_kept(self, size, ratio):
        height, width = bucket_of(100 * ratio[1], 100 * ratio[0], size)
        assert height % 16 == width % 16 == 0
        assert bucket_of(100 * ratio[0], 100 * ratio[1], size) == (width, height)
        # Sides are multiples of 16, so small panels are coarse.
        assert abs(math.log(width / height * ratio[1] / ratio[0])) <= 16 / min(height, width)
        assert abs(height * width / size**2 - 1) <= 16 / min(height, width)
        assert ratio != (1, 1) or (height, width) == (size, size)

    def test_the_middle_is_scaled_not_squashed(self):
        ramp = torch.linspace(0, 1, 200)[None, :, None].expand(100, 200, 3)
        square = fitted(ramp, (64, 64))
        assert square.shape == (64, 64, 3)
        middle = ramp[0, 50:150, 0]
        assert float(square[32, 0, 0]) == pytest.approx(float(middle[0]), abs=0.01)
        assert float(square[32, -1, 0]) == pytest.approx(float(middle[-1]), abs=0.01)

    def test_what_is_cut_or_scaled_up_is_said(self, folders):
        for folder, seed in zip(folders, (1, 2), strict=True):
            (folder / "00.png").write_bytes(png(seed, 400, 50))
        report = load(*folders, panel_size=128).report
        assert "1 pairs are so long that more than a tenth is cut off: 00" in report
        assert "19 pairs are smaller than their panel, and scaled up: 01, 02, 03, 04, 05" in report
