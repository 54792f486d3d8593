"""Finished edits as shards with the pictures inside, which data sets' readers and this pack's own can read."""

import json
import sys
import tarfile

import pytest
from icedit.headless.cli import main
from icedit.headless.errors import ManifestError
from icedit.headless.many import packed
from icedit.headless.many.manifest import Problems, read_manifest
from icedit.headless.many.packed import FOLDER, check_packing, pack
from icedit.headless.many.plan import ManifestSettings, make_plan
from icedit.headless.many.results import MadePicture, opened_results
from icedit.headless.many.run import ManifestRun
from icedit.training.pairs.parquet import read_tables
from support.many import arguments, manifest_of
from support.workflows import WORKFLOWS


def packed_run(path, kind, made, failed=()):
    """The names in the folder of the shards, after so many edits were made."""
    manifest = read_manifest(path, (), Problems())
    plan = make_plan(manifest, ManifestSettings(str(WORKFLOWS / "api" / "icedit.json"), False), Problems())
    with opened_results(path.parent / "out", {}, manifest.rows, False) as results:
        run = ManifestRun(manifest, plan, results)
        for row in list(run.todo):
            if row.id in made:
                how = MadePicture(f"result {row.id}".encode(), ".png", row.seed, None, 1.5, "http://a")
                results.keep_picture(row, how)
            elif row.id in failed:
                results.keep_failure(row, "dark", None)
        folder = pack(run, kind)
    return sorted(found.name for found in folder.iterdir())


def test_parquet_shards_are_pairs_to_train_on(tmp_path, monkeypatch):
    from pyarrow import parquet

    monkeypatch.setattr(packed, "MOST_EDITS", 2)
    path = manifest_of(tmp_path, 5)
    names = packed_run(path, "parquet", {"0", "2", "3"}, {"1"})
    assert names == ["edits-00000.parquet", "edits-00001.parquet", "index.json"]
    shards = tmp_path / "out" / FOLDER
    table = parquet.read_table(shards / "edits-00000.parquet")
    assert table["id"].to_pylist() == ["0", "2"] and table["seed"].to_pylist() == [0, 2]
    assert table["edited"].to_pylist()[1] == {"bytes": b"result 2", "path": "2.png"}
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["source"] == {"_type": "Image"}
    listing = read_tables([shards / name for name in names[:2]])
    assert [pair.instructions for pair in listing.rows] == [("make it blue",)] * 3 and not listing.problems
    assert listing.rows[0].source.content() == (tmp_path / "a.jpg").read_bytes()
    # What has not changed stays as it is.
    before = (shards / names[0]).stat().st_mtime_ns
    packed_run(path, "parquet", {"4"})
    assert (shards / names[0]).stat().st_mtime_ns == before
    assert parquet.read_table(shards / names[1])["id"].to_pylist() == ["3", "4"]


def test_tar_shards_are_web_datasets(tmp_path, caplog):
    path = manifest_of(tmp_path, 3)
    packed_run(path, "parquet", {"0", "1", "2"})
    (tmp_path / "b.png").unlink()
    assert packed_run(path, "tar", ()) == ["edits-00000.tar", "index.json"], "of one kind at a time"
    assert "1 is left out of the shards" in caplog.text
    with tarfile.open(tmp_path / "out" / FOLDER / "edits-00000.tar") as shard:
        found = {member.name: shard.extractfile(member).read() for member in shard}
    assert sorted(found) == [
        f"{number:06d}.{suffix}" for number in (0, 2) for suffix in ("json", "png", "source.jpg", "txt")
    ]
    assert found["000002.png"] == b"result 2" and found["000002.txt"] == b"make it blue"
    facts = json.loads(found["000002.json"])
    assert (facts["id"], facts["seed"], facts["server"]) == ("2", 2, "http://a")


@pytest.mark.server
def test_the_command_line_writes_them_at_the_end(server, tmp_path, capsys):
    given = [*arguments(manifest_of(tmp_path, 2), server.url), "--shards", "tar"]
    assert main(given) == 0
    assert f"Their shards are in {tmp_path / 'out' / FOLDER}." in capsys.readouterr().out
    with tarfile.open(tmp_path / "out" / FOLDER / "edits-00000.tar") as shard:
        assert len(shard.getnames()) == 8


def test_without_pyarrow_there_is_tar(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ManifestError, match="pip install pyarrow; --shards tar takes nothing"):
        check_packing("parquet")
    check_packing("tar")
