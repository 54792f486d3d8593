"""Load Edit Pairs on the real host: names, reports, what changes its results."""

import os

import pytest
import torch
from icedit.host import edit_pairs, files
from PIL import Image

pytestmark = pytest.mark.host


@pytest.fixture
def folder(host):
    """Ten pairs in the host's input folder."""
    folder = host.input / "pairs"
    for number in range(10):
        for place, colour in (("before", (10 * number, 0, 0)), ("after", (0, 10 * number, 255))):
            (folder / place).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (96, 64), colour).save(folder / place / f"{number}.png")
        (folder / "after" / f"{number}.txt").write_text("make it blue")
    yield folder
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()


def call(host, **inputs):
    return host.call("LoadEditPairs", **{"sources": "pairs/before", "edited": "pairs/after", "panel_size": 64} | inputs)


def test_pairs_from_two_folders(host, folder):
    pairs, report = call(host)
    assert (len(pairs), len(pairs.held_out)) == (9, 1)
    source, edited = pairs.pictures(pairs[0])
    assert source.shape == edited.shape == (48, 80, 3)
    assert torch.allclose(edited[..., 2], torch.ones(48, 80))
    assert report.startswith("9 pairs to train on, 1 held out, 10 instructions\npanels: 80 x 48 (10)")


def test_transparency_is_laid_over_white_as_in_an_edit(host, folder):
    Image.new("RGBA", (96, 64), (0, 0, 0, 0)).save(folder / "before" / "0.png")
    pairs, _ = call(host, held_out=0)
    assert float(pairs.pictures(pairs[0])[0].min()) > 0.999


def test_stop_and_skip(host, folder):
    (folder / "after" / "3.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1 of 10 pairs cannot be used:\n- 1 with a picture that cannot be read: 3"):
        call(host)
    pairs, report = call(host, on_problems="skip")
    assert len(pairs) + len(pairs.held_out) == 9
    assert "left out, 1 pairs" in report


@pytest.mark.parametrize("name", ["../secret", "pairs/../../secret", "{outside}/secret", "/etc", "..", "x/../../y"])
@pytest.mark.parametrize("input_name", ["sources", "edited"])
def test_no_name_leads_out_of_the_input_folder(host, folder, name, input_name):
    with pytest.raises(ValueError, match=f"{input_name} is .* lies outside ComfyUI's input folder"):
        call(host, **{input_name: name.format(outside=host.folder)})


@pytest.mark.parametrize("name", ["", "nothing", 5, None, "a\0b", "x" * 10_000])
def test_a_name_of_nothing(host, folder, name):
    with pytest.raises(ValueError, match=r"sources is .*ComfyUI's input folder"):
        call(host, sources=name)


def test_a_list_names_no_file_outside_the_input_folder(host, folder):
    secret = host.folder / "secret.png"
    Image.new("RGB", (96, 64)).save(secret)
    for name in (str(secret), "../../secret.png", "before/../../../secret.png"):
        (folder / "list.csv").write_text(f"source,edited,instruction\n{name},after/1.png,x\nbefore/2.png,after/2.png,x")
        with pytest.raises(ValueError, match="1 with a file outside the folder that may be read: line 2"):
            call(host, sources="pairs/list.csv", edited="")
    assert len(call(host, sources="pairs/list.csv", edited="", on_problems="skip")[0]) == 1


def test_links_that_the_owner_has_put_there_are_followed(host, folder, tmp_path):
    for place in ("before", "after"):
        (folder / place).rename(tmp_path / place)
        (folder / place).symlink_to(tmp_path / place)
    assert len(call(host)[0]) == 9
    for place in ("before", "after"):
        (folder / place).unlink()


def test_it_runs_again_when_a_file_changes_only(host, folder):
    def fingerprint(sources="pairs/before", edited="pairs/after"):
        return edit_pairs.fingerprint(sources, edited, "")

    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    os.utime(folder / "before" / "2.png", (0, 0))
    seen.append(fingerprint())
    (folder / "after" / "2.txt").write_text("another")
    seen.append(fingerprint())
    (folder / "before" / "new.png").write_bytes(b"")
    seen.append(fingerprint())
    (folder / "list.csv").write_text("source,edited,instruction\nbefore/2.png,after/2.png,x")
    seen.append(fingerprint("pairs/list.csv", ""))
    os.utime(folder / "before" / "2.png", (1, 1))
    seen.append(fingerprint("pairs/list.csv", ""))
    assert len(set(seen)) == 6


def test_an_interrupt_stops_the_reading(host, folder):
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        call(host)


def test_the_temporary_folder_serves_uploads_of_the_command_line(host):
    assert files.containing_folder("pairs/before [temp]") == host.folder / "temp"
