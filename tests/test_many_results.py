"""What the folder of results keeps, whatever stops the process that writes it."""

import errno
import hashlib
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from icedit.headless.batch import OutputError
from icedit.headless.errors import ManifestError
from icedit.headless.many.manifest import ManifestRow
from icedit.headless.many.results import LINES, UNFINISHED, MadePicture, opened_results

FINGERPRINT = {"manifest": "1", "workflow": "2", "seed": None}
ROWS = [
    ManifestRow(f"{number}", "a.png", target and "x", output=target) for number, target in enumerate(("", "x/y", ""))
]


def made(content=b"a picture", suffix=".png"):
    return MadePicture(content, suffix, 7, 0.5, 1.25, "http://a")


def opened(folder, fingerprint=FINGERPRINT, retry_failed=False):
    return opened_results(folder, fingerprint, ROWS, retry_failed)


def lines_of(folder):
    return [json.loads(line) for line in (folder / LINES).read_text().splitlines()]


@pytest.fixture
def folder(tmp_path):
    """The first made, the second failed, the third not done."""
    with opened(tmp_path / "out") as results:
        results.keep_picture(ROWS[0], made())
        results.keep_failure(ROWS[1], "it is dark", "http://b")
    return tmp_path / "out"


def test_a_line_says_how_an_edit_was_made(folder):
    assert lines_of(folder) == [
        {
            "id": "0", "status": "ok", "file": "0.png", "sha256": hashlib.sha256(b"a picture").hexdigest(), "seed": 7,
            "score": 0.5, "seconds": 1.25, "server": "http://a", "error": None,
        },
        {
            "id": "1", "status": "failed", "file": None, "sha256": None, "seed": None, "score": None, "seconds": None,
            "server": "http://b", "error": "it is dark",
        },
    ]  # fmt: skip
    assert {path.name for path in folder.iterdir()} == {"0.png", LINES, "fingerprint.json", ".lock"}


def test_what_has_its_line_is_done(folder):
    with opened(folder) as results:
        assert results.done == {"0": "ok", "1": "failed"}
        results.keep_picture(ROWS[2], made(suffix=".webp"))
    assert [line["file"] for line in lines_of(folder)] == ["0.png", None, "2.webp"]


def test_failed_ones_are_forgotten_to_be_tried_again(folder):
    with opened(folder, retry_failed=True) as results:
        assert results.done == {"0": "ok"}
        results.keep_picture(ROWS[1], made())
    assert [(line["id"], line["file"]) for line in lines_of(folder)] == [("0", "0.png"), ("1", "x/y.png")]


@pytest.mark.parametrize("torn", [b'{"id": "2", "stat', b'{"id": "2", "status": "ok", "file": "0.png"}', b"\0\0\0\n"])
def test_a_line_that_is_not_whole_does_not_count(folder, torn):
    before = (folder / LINES).read_bytes()
    with open(folder / LINES, "ab") as file:
        file.write(torn)
    (folder / UNFINISHED).mkdir()
    (folder / UNFINISHED / "1-2.png").write_bytes(b"the beginning")
    (folder / "2.png").write_bytes(b"without a line")
    with opened(folder) as results:
        assert results.done == {"0": "ok", "1": "failed"}
        assert (folder / LINES).read_bytes() == before
        results.keep_picture(ROWS[2], made(b"whole"))
    assert (folder / "2.png").read_bytes() == b"whole"
    assert not (folder / UNFINISHED).exists()


def test_a_picture_that_is_gone_is_made_again(folder):
    (folder / "0.png").unlink()
    with opened(folder) as results:
        assert results.done == {"1": "failed"}


def test_other_settings_ask_for_another_folder(folder):
    before = (folder / LINES).read_bytes()
    other = {**FINGERPRINT, "manifest": "9", "seed": 3}
    with pytest.raises(ManifestError, match=r"another run: the manifest, --seed changed since\. Name another folder"):
        opened(folder, other).__enter__()
    assert (folder / LINES).read_bytes() == before


def test_a_run_that_made_nothing_does_not_hold_the_folder(tmp_path):
    with opened(tmp_path):
        pass
    with opened(tmp_path, {**FINGERPRINT, "manifest": "9"}) as results:
        assert results.done == {}


def test_pictures_of_something_else_are_not_replaced(tmp_path):
    (tmp_path / "2.png").write_bytes(b"mine")
    with pytest.raises(ManifestError, match=r"has files that this run would replace: 2\.png"):
        opened(tmp_path).__enter__()
    assert (tmp_path / "2.png").read_bytes() == b"mine"


def test_two_runs_do_not_write_into_one_folder(folder):
    with opened(folder), pytest.raises(ManifestError, match="Another run is writing into"):
        opened(folder).__enter__()


def test_many_threads_write_whole_lines(tmp_path):
    rows = [ManifestRow(f"{number}", "a.png") for number in range(200)]
    with opened_results(tmp_path, FINGERPRINT, rows, False) as results, ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda row: results.keep_picture(row, made(row.id.encode())), rows))
    assert sorted(int(line["id"]) for line in lines_of(tmp_path)) == list(range(200))
    assert all((tmp_path / f"{row.id}.png").read_bytes() == row.id.encode() for row in rows)


@pytest.mark.skipif(os.name == "nt", reason="there is no limit on the size of files to stand for a full disk")
@pytest.mark.parametrize("what", ["picture", "line"])
def test_a_full_disk_ends_the_run_and_loses_nothing(folder, what):
    import resource

    before = (folder / LINES).read_bytes()
    room = 10 if what == "picture" else len(before) + 10
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with opened(folder) as results:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(OutputError, match=os.strerror(errno.EFBIG)):
                results.keep_picture(ROWS[2], made(b"a picture of 23 bytes.." if what == "picture" else b"small"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert results.done == {"0": "ok", "1": "failed"}
    assert (folder / LINES).read_bytes() == before
    with opened(folder) as results:
        results.keep_picture(ROWS[2], made())
    assert [line["id"] for line in lines_of(folder)] == ["0", "1", "2"]
