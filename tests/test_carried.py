"""Pictures that carry a workflow: as the page reads them, and each the workflow that is shipped."""

import json
import shutil

import numpy as np
import pytest
from icedit.workflows.source.carried import carried, carry, pictures
from PIL import Image
from support.workflows import PACK, PAGE_WORKFLOWS

SHIPPED = pictures()
LARGEST = 120_000


def read_as_the_page_does(content: bytes) -> str:
    """The workflow as text, by the steps of the page's own reader: chunks, EXIF, text entries of its directory."""
    assert content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    at = 12
    while content[at : at + 4] != b"EXIF":
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    exif = content[at + 8 : at + 8 + int.from_bytes(content[at + 4 : at + 8], "little")]
    order = "little" if exif[:2] == b"II" else "big"

    def number(place, size):
        return int.from_bytes(exif[place : place + size], order)

    found, start = {}, number(4, 4)
    for entry in range(start + 2, start + 2 + 12 * number(start, 2), 12):
        if number(entry + 2, 2) == 2:
            text = exif[number(entry + 8, 4) :][: number(entry + 4, 4) - 1].decode()
            name, _, value = text.partition(":")
            found[name] = value
    return found["workflow"]


@pytest.mark.parametrize("picture", SHIPPED, ids=lambda path: path.name)
def test_a_picture_carries_the_shipped_workflow(picture):
    shipped = json.loads(SHIPPED[picture].read_text(encoding="utf-8"))
    said = "run python -m workflows.source.carried"
    assert carried(picture) == shipped, said
    assert json.loads(read_as_the_page_does(picture.read_bytes())) == shipped, said
    assert picture.stat().st_size < LARGEST


def test_every_workflow_has_a_picture_that_carries_it():
    names = {path.stem: SHIPPED[path] for path in SHIPPED if path.parent == PACK / "workflows"}
    assert names == {path.stem: path for path in PAGE_WORKFLOWS}


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_picture_stays_as_it_was(tmp_path, mode):
    picture = tmp_path / "odd.webp"
    Image.effect_noise((101, 67), 90).convert(mode).save(picture, quality=70)
    before = np.asarray(Image.open(picture))
    for workflow in ({"nodes": ["ü", "“x”"]}, {"nodes": ["another"]}):
        carry(picture, workflow)
        assert carried(picture) == workflow
        assert np.array_equal(np.asarray(Image.open(picture)), before)


def test_other_pictures_are_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "a.webp")
    with pytest.raises(ValueError, match=r"a\.webp is no still WebP picture"):
        carry(tmp_path / "a.webp", {})
    assert carried(tmp_path / "a.png") is None
