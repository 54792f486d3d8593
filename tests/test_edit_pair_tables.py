"""Pairs to train on in tables with the pictures inside, as data sets are published."""

import numpy as np
import pytest
import torch
from support.edit_pairs import every, load, picture, png


class TestTables:
    @pytest.fixture
    def arrow(self):
        pytest.importorskip("pyarrow")
        import pyarrow

        return pyarrow

    def embedded(self, seed):
        return {"bytes": png(seed), "path": None}

    def write(self, arrow, path, columns):
        import pyarrow.parquet

        pyarrow.parquet.write_table(arrow.table(columns), path, row_group_size=3)
        return path

    def test_the_layout_of_magicbrush(self, arrow, tmp_path):
        columns = {
            "img_id": ["1", "1", *"3456789ab"],
            "turn_index": [1, 2, *([1] * 9)],
            "source_img": [self.embedded(n) for n in range(11)],
            "mask_img": [self.embedded(0)] * 11,
            "target_img": [self.embedded(100 + n) for n in range(11)],
            "instruction": [f"make it {n}" for n in range(11)],
        }
        path = self.write(arrow, tmp_path / "train.parquet", columns)
        pairs = load(path).pairs
        assert len(pairs) == 10 and len(pairs.held_out) == 1
        pair = next(pair for pair in every(pairs) if pair.id == "train row 8")
        assert pair.instructions == ("make it 7",)
        assert torch.equal((pairs.pictures(pair)[1] * 255).round().byte(), torch.from_numpy(np.array(picture(107))))

    def test_the_layout_of_omniedit_over_several_files(self, arrow, tmp_path):
        for part in range(2):
            columns = {
                "omni_edit_id": [f"{part}{n}" for n in range(4)],
                "task": ["removal"] * 4,
                "src_img": [self.embedded(10 * part + n) for n in range(4)],
                "edited_img": [self.embedded(100 + 10 * part + n) for n in range(3)] + [None],
                "edited_prompt_list": [[f"remove {n}", f"take {n} away"] for n in range(3)] + [["x"]],
            }
            self.write(arrow, tmp_path / f"part{part}.parquet", columns)
        with pytest.raises(ValueError, match=r"2 with a picture.*part0 row 4 \(edited_img holds no picture\); part1"):
            load(tmp_path)
        pairs = load(tmp_path, on_problems="skip").pairs
        assert {pair.task for pair in pairs} == {"removal"}
        assert pairs[0].instructions == ("remove 0", "take 0 away")
        assert len(pairs) == 6

    def test_a_file_that_is_no_table(self, arrow, tmp_path):
        (tmp_path / "x.parquet").write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"'x\.parquet' is no parquet table that can be read"):
            load(tmp_path / "x.parquet")

    def test_without_pyarrow_it_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setattr("icedit.training.pairs.parquet.find_spec", lambda _: None)
        (tmp_path / "x.parquet").write_bytes(b"")
        with pytest.raises(ValueError, match="pip install pyarrow"):
            load(tmp_path / "x.parquet")
