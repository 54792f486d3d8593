"""What a manifest may say, and that everything that is wrong with one is told before the work starts."""

import csv
import json

import pytest
from icedit.headless.cli import main
from icedit.headless.errors import ManifestError
from icedit.headless.many.fingerprint import fingerprint_of
from icedit.headless.many.manifest import ManifestRow, Problems, read_manifest
from icedit.headless.many.plan import ManifestPlan, ManifestSettings, added_places, make_plan, mention_descriptions
from icedit.headless.many.shards import read_source
from support.workflows import WORKFLOWS

API = WORKFLOWS / "api"
URL = ["--server", "http://127.0.0.1:9"]
GIGABYTE = 2**30
ROWS = [
    {"id": "1", "picture": "a.png", "instruction": "make it blue", "seed": 7, "set.KSampler.steps": 4},
    {"id": "two", "picture": "in/b.png", "instruction": "remove it", "output": "x/y.png"},
]
READ = (
    ManifestRow("1", "a.png", "make it blue", 7, sets=("KSampler.steps=4",)),
    ManifestRow("two", "in/b.png", "remove it", output="x/y"),
)


@pytest.fixture
def folder(tmp_path):
    """With the pictures that the rows name."""
    (tmp_path / "in").mkdir()
    for name in ("a.png", "in/b.png"):
        (tmp_path / name).write_bytes(b"a picture")
    return tmp_path


def lines(folder, *rows):
    path = folder / "edits.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def read(path, *instructions):
    problems = Problems()
    manifest = read_manifest(path, instructions, problems)
    problems.raise_any(path)
    return manifest


def planned(path, **settings):
    problems = Problems()
    manifest = read_manifest(path, (), problems)
    plan = make_plan(
        manifest, ManifestSettings(**{"workflow": str(API / "icedit.json"), "mini": False, **settings}), problems
    )
    problems.raise_any(path)
    return manifest, plan


def inputs(workflow, kind):
    return next(node["inputs"] for node in workflow.values() if node["class_type"] == kind)


class TestReading:
    def test_lines_of_json(self, folder):
        assert read(lines(folder, *ROWS)).rows == READ

    def test_csv(self, folder):
        path = folder / "edits.csv"
        with open(path, "w", encoding="utf-8-sig", newline="") as file:
            columns = csv.DictWriter(file, ["id", "picture", "instruction", "seed", "set.KSampler.steps", "output"])
            columns.writeheader()
            columns.writerows(ROWS)
        assert read(path).rows == READ

    def test_parquet(self, folder):
        table = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        path = folder / "edits.parquet"
        parquet.write_table(table.Table.from_pylist([{**ROWS[1], **ROWS[0], "output": None}, ROWS[1]]), path)
        assert read(path).rows == READ

    def test_parquet_where_its_package_is_missing(self, folder, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
        (folder / "edits.parquet").write_bytes(b"PAR1")
        with pytest.raises(ManifestError, match="install it by `pip install pyarrow`"):
            read(folder / "edits.parquet")

    def test_numbers_as_ids_and_seeds_that_tables_made_floats(self, folder):
        assert read(lines(folder, {"id": 5, "picture": "a.png", "seed": 5.0})).rows[0] == ManifestRow(
            "5", "a.png", seed=5
        )

    def test_every_picture_of_a_folder_with_every_instruction(self, folder):
        (folder / "notes.txt").write_text("no picture")
        rows = read(folder, "make it blue", "remove it").rows
        assert [(row.id, row.picture, row.instruction, row.target) for row in rows] == [
            ("a-1", "a.png", "make it blue", "a-1"),
            ("a-2", "a.png", "remove it", "a-2"),
            ("in__b-1", "in/b.png", "make it blue", "in/b-1"),
            ("in__b-2", "in/b.png", "remove it", "in/b-2"),
        ]

    def test_shards_of_a_web_dataset(self, folder):
        import io
        import tarfile

        (folder / "data").mkdir()
        with tarfile.open(folder / "data" / "0.tar", "w") as shard:
            for name, content in {
                "a.png": b"first", "a.txt": b"make it blue", "in/b.jpg": b"second",
                "in/b.json": b'{"instruction": "remove it", "seed": 7, "set.KSampler.steps": 4}', "c.cls": b"9",
            }.items():  # fmt: skip
                member = tarfile.TarInfo(name)
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
            shard.addfile(tarfile.TarInfo("c.png"))
        for path in (folder / "data", folder / "data" / "0.tar"):
            manifest = read(path, "make it red")
            assert [(row.id, row.instruction, row.seed, row.sets, row.target) for row in manifest.rows] == [
                ("a", "make it blue", None, (), "a"),
                ("in__b", "remove it", 7, ("KSampler.steps=4",), "in/b"),
                ("c", "make it red", None, (), "c"),
            ]
            contents = [read_source(manifest.place(row.picture)) for row in manifest.rows]
            assert contents == [b"first", b"second", b""]
        (folder / "data" / "1.tar").write_bytes(b"no tar")
        with pytest.raises(ManifestError, match=r"1\.tar is no shard that can be read"):
            read(folder / "data")

    def test_the_command_lines_instruction_is_for_the_rows_that_have_none(self, folder):
        path = lines(folder, {"id": "a", "picture": "a.png"}, ROWS[0])
        assert [row.instruction for row in read(path, "make it red").rows] == ["make it red", "make it blue"]

    def test_a_row_goes_to_other_processes_and_comes_back(self):
        assert [ManifestRow.from_json(row.to_json()) for row in READ] == list(READ)


WRONG = [
    ({"id": "a/b", "picture": "a.png"}, "has the id 'a/b' with a slash"),
    ({"id": "..", "picture": "a.png"}, "has the id '..', which is no name for a file"),
    ({"id": "con", "picture": "a.png"}, "has the id 'con', which is no name for a file"),
    ({"id": "x" * 300, "picture": "a.png"}, "which is no name for a file"),
    ({"id": "line\nbreak", "picture": "a.png"}, "which is no name for a file"),
    ({"id": True, "picture": "a.png"}, "has True as its id, which must be a text"),
    ({"id": "results.jsonl", "picture": "a.png"}, "a name that is used for the run itself"),
    ({"picture": "a.png"}, "has no id"),
    ({"id": "a"}, "has no picture"),
    ({"id": "a", "picture": "../secret.png"}, "has the picture '../secret.png' outside the manifest's folder"),
    ({"id": "a", "picture": "in\\..\\..\\b.png"}, "outside the manifest's folder"),
    ({"id": "a", "picture": "a.png", "region": "../m.png"}, "has the region '../m.png' outside"),
    ({"id": "a", "picture": "a\0.png"}, "with a character that is in no file's name"),
    (
        {"id": "a", "picture": "a.png", "output": "../b.png"},
        "has the output '../b', which must be a path in the folder",
    ),
    ({"id": "a", "picture": "a.png", "output": "/b.png"}, "has the output '/b'"),
    ({"id": "a", "picture": "a.png", "output": "b.png/c.png"}, "has the output 'b.png/c'"),
    ({"id": "a", "picture": "a.png", "seed": -1}, "has the seed -1, which must be a whole number"),
    ({"id": "a", "picture": "a.png", "seed": True}, "has the seed True"),
    ({"id": "a", "picture": "a.png", "prompt": "x"}, "has columns that are unknown: 'prompt'"),
    ("{", "is no JSON"),
    ("[1]", "is no JSON object"),
]


class TestRefused:
    @pytest.mark.parametrize(("row", "problem"), WRONG, ids=[problem[:40] for _, problem in WRONG])
    def test_a_row(self, folder, row, problem):
        with pytest.raises(ManifestError) as raised:
            read(lines(folder, row, ROWS[0]))
        assert "line 1 " in str(raised.value) and problem in str(raised.value)

    def test_ids_and_files_that_are_the_same(self, folder):
        rows = [{"id": "a"}, {"id": "A"}, {"id": "b", "output": "c"}, {"id": "c"}]
        with pytest.raises(ManifestError) as raised:
            read(lines(folder, *({**row, "picture": "a.png"} for row in rows)))
        assert "line 2 has the id 'A' of line 1" in str(raised.value)
        assert "line 4 would save 'c', as line 3 does" in str(raised.value)

    def test_csv_with_a_cell_too_many(self, folder):
        (folder / "edits.csv").write_text("id,picture\na,a.png\nb,in/b.png,make it blue, and red\n")
        with pytest.raises(ManifestError, match="line 3 has more values than the 2 columns"):
            read(folder / "edits.csv")

    def test_files_that_are_too_large(self, folder):
        for name in ("a.png", "edits.csv"):
            with open(folder / name, "wb") as file:
                file.truncate(10 * GIGABYTE)
        with pytest.raises(ManifestError, match=r"The picture 'a.png' has 10.0 GB; at most 512 MB are sent"):
            read(lines(folder, *ROWS))
        with pytest.raises(ManifestError, match=r"has 10.0 GB, and at most 1 GB are read"):
            read(folder / "edits.csv")

    def test_pictures_that_are_all_missing(self, folder):
        with pytest.raises(ManifestError, match=r"None of the pictures is there, as 'no.png'; their paths start from"):
            read(lines(folder, {"id": "a", "picture": "no.png"}, {"id": "b", "picture": "nor.png"}))

    @pytest.mark.parametrize("name", ["edits.txt", "no.jsonl", "latin.jsonl", "empty.jsonl"])
    def test_files_that_are_no_manifest(self, folder, name):
        (folder / "edits.txt").touch()
        (folder / "empty.jsonl").touch()
        (folder / "latin.jsonl").write_bytes('{"id": "ä"}'.encode("latin-1"))
        with pytest.raises(ManifestError, match="The manifest .*" + name):
            read(folder / name)

    def test_everything_at_once_by_the_command_line_before_anything_is_made(self, folder, capsys):
        bad = {"set.Sampler.steps": 4, "picture": "a.png", "instruction": "x"}
        rows = [
            {**bad, "id": "a"},
            {**bad, "id": "b"},
            {"id": "c", "picture": "a.png"},
            {"id": "d", "picture": "a.png", "instruction": "x", "workflow": "no.json"},
            {"id": "e/", "picture": "a.png", "instruction": "x", "description": "a cat"},
        ]
        arguments = [*URL, "--manifest", lines(folder, *rows), "--output", folder / "out"]
        assert main([str(argument) for argument in arguments]) == 2
        said = capsys.readouterr().err
        assert "has 5 problems; nothing was started" in said
        assert "The row 'a' (and 1 more like it) does not fit its workflow: The workflow has no node 'Sampler'" in said
        assert "The row 'c' has no instruction, and --instruction gives none" in said
        assert "The workflow 'no.json' is not usable" in said
        assert "line 5 has the id 'e/' with a slash" in said
        assert "The row 'e/' does not fit its workflow: The workflow has no node for a description" in said
        assert not (folder / "out").exists()

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["--retry-failed"], "--retry-failed is for --manifest"),
            (["--server", "http://a", "http://b"], "several addresses after --server are for --manifest"),
            (["--manifest", "a.jsonl", "--picture", "a.png"], "do not go together"),
        ],
    )
    def test_options_that_do_not_go_together(self, arguments, problem, capsys):
        with pytest.raises(SystemExit):
            main(arguments)
        assert problem in capsys.readouterr().err

    def test_a_column_that_is_missing_is_one_problem(self, folder):
        (folder / "edits.csv").write_text("id,instruction\n" + "".join(f"{n},make it blue\n" for n in range(50)))
        with pytest.raises(ManifestError, match=r"has a problem; .*\n  line 2 \(and 49 more\) has no picture$"):
            read(folder / "edits.csv")


class TestPlan:
    def test_a_rows_values_replace_the_command_lines(self, folder):
        manifest, plan = planned(lines(folder, *ROWS), seed=1, sets=("KSampler.steps=9",))
        first, second = (plan.filled(row, "up.png", None) for row in manifest.rows)
        assert inputs(first, "DiptychCreate")["image"] == "up.png"
        assert inputs(first, "InContextEditInstruction")["editText"] == "make it blue"
        assert [inputs(one, "KSampler")[name] for one in (first, second) for name in ("seed", "steps")] == [7, 4, 1, 9]
        assert plan.seed_of(first) == 7

    def test_text_that_looks_like_a_number_stays_one(self, folder):
        path = lines(folder, {**ROWS[0], "set.SaveImage.filename_prefix": "5"})
        manifest, plan = planned(path)
        assert inputs(plan.filled(manifest.rows[0], "up.png", None), "SaveImage")["filename_prefix"] == "5"

    def test_a_region_and_a_workflow_of_its_own(self, folder):
        (folder / "own.json").write_text((API / "icedit_moe.json").read_text())
        rows = [{**ROWS[1], "region": "a.png", "workflow": name} for name in ("own.json", "icedit_early_filter.json")]
        manifest, plan = planned(lines(folder, rows[0], {**rows[1], "id": "shipped", "output": ""}))
        own, shipped = (plan.filled(row, "up.png", "region.png") for row in manifest.rows)
        assert inputs(own, "LoadImageMask")["image"] == "region.png"
        assert inputs(own, "DiptychCreate")["region"] == ["icedit_region", 0]
        assert inputs(own, "MoELoRALoader") and inputs(shipped, "EarlyFilterSampler")

    def test_one_picture_of_a_workflow_is_kept(self, folder):
        _, plan = planned(lines(folder, *ROWS))
        assert inputs(plan.workflows[""], "SaveImage")["filename_prefix"] == "icedit"
        _, other = planned(lines(folder, *ROWS), result="14")
        assert inputs(other.workflows[""], "SaveImage")["filename_prefix"] == "icedit_before_after"
        with pytest.raises(ManifestError, match="no node '99' whose result could be kept; its Save Image: 11, 14"):
            planned(lines(folder, *ROWS), result="99")

    def test_models_that_the_mini_ones_lack(self, folder):
        row = {"id": "1", "picture": "a.png", "instruction": "remove the red circle"}
        _, plan = planned(lines(folder, {**row, "workflow": "icedit_inversion.json"}), mini=True)
        assert inputs(plan.workflows["icedit_inversion.json"], "UNETLoader")["unet_name"] == "mini_dev.safetensors"
        for lacking, said in (
            ({"workflow": "kontext_early_filter.json"}, r"needs FLUX\.1 Kontext \(node 9, ReferenceLatent\)"),
            ({"set.UNETLoader.unet_name": "flux1-dev.safetensors"}, r"needs flux1-dev\.safetensors"),
        ):
            with pytest.raises(ManifestError, match=said):
                planned(lines(folder, {**row, **lacking}), mini=True)

    def test_inputs_that_only_a_server_knows(self, folder):
        manifest, plan = planned(lines(folder, {**ROWS[0], "set.9.colour": 1}, ROWS[1]))
        assert added_places(plan, manifest.rows) == {("KSampler", "colour"): "1"}

    def test_it_goes_to_other_processes_and_comes_back(self, folder):
        manifest, plan = planned(lines(folder, *ROWS), sets=("KSampler.steps=9",))
        again = ManifestPlan.from_json(plan.to_json())
        assert again.filled(manifest.rows[0], "a", None) == plan.filled(manifest.rows[0], "a", None)
        assert fingerprint_of(manifest, again) == fingerprint_of(manifest, plan)


class TestTheDescriptionOfAPicture:
    """A workflow without training says what its own picture shows."""

    WORKFLOW = str(API / "icedit_text_to_image.json")

    def told(self, folder, caplog, *rows, **settings):
        manifest, plan = planned(lines(folder, *rows), workflow=self.WORKFLOW, **settings)
        mention_descriptions(plan, manifest.rows)
        return caplog.messages

    def test_rows_that_leave_it_to_the_workflow_are_told_once(self, folder, caplog):
        rows = [{"id": str(number), "picture": "a.png", "instruction": "x", "seed": number} for number in range(3)]
        rows += [{"id": "own", "picture": "a.png", "instruction": "x", "description": "a cat"}]
        (told,) = self.told(folder, caplog, *rows)
        assert "of 3 of 4 rows says that their picture shows 'a woman" in told

    @pytest.mark.parametrize("said", [{"description": "a cat"}, {"set.InContextEditInstruction.description": "a cat"}])
    def test_nothing_is_said_where_every_row_has_its_own(self, folder, caplog, said):
        assert not self.told(folder, caplog, {"id": "1", "picture": "a.png", "instruction": "x", **said})

    def test_nor_where_the_command_line_has_one(self, folder, caplog):
        row = {"id": "1", "picture": "a.png", "instruction": "x"}
        assert not self.told(folder, caplog, row, description="a cat")
