"""What the command line prints, and what becomes of the work where it cannot print, write or go on."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from icedit.headless.job import PHOTOGRAPH
from support.processes import heed_ctrl_c
from support.workflows import WORKFLOWS

pytestmark = [pytest.mark.server, pytest.mark.timeout(180)]
only_posix = pytest.mark.skipif(os.name == "nt", reason="this is another thing on Windows")


def start(server, output, *options, steps=1, picture=PHOTOGRAPH, **arguments):
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "headless", "--server", server.url, "--output", str(output)]
    command += ["--picture", str(picture), "--set", "DiptychCreate.panel_width=64", "--set", f"KSampler.steps={steps}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **arguments}
    return subprocess.Popen([*command, *options], cwd=WORKFLOWS.parent, **pipes)


def ended(process):
    said, wrong = process.communicate(timeout=120)
    assert b"Traceback" not in wrong, wrong.decode()
    assert b"Exception ignored" not in wrong, wrong.decode()
    return process.returncode, said, wrong


def results(folder):
    return sorted(folder.glob("*.png"))


def test_a_name_that_the_console_cannot_print(server, tmp_path):
    picture = tmp_path / "\u732b.jpg"
    shutil.copy(PHOTOGRAPH, picture)
    environ = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    process = start(server, tmp_path / "\u51fa\u529b", picture=picture, env=environ)
    status, said, _ = ended(process)
    assert status == 0
    assert len(results(tmp_path / "\u51fa\u529b")) == len(said.splitlines()) == 2
    assert rb"\u51fa\u529b" in said and rb"\u732b" in said


def test_help_on_a_console_of_few_letters():
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "headless", "--help"]
    assert subprocess.run(command, cwd=WORKFLOWS.parent, env=environ, capture_output=True, check=False).returncode == 0


@only_posix
@pytest.mark.parametrize("kind", ["closed", "full"])
def test_a_standard_output_that_takes_nothing(server, tmp_path, kind):
    """`... | head -1`, or a file on a full disk: the edits that are left are made."""
    if kind == "full" and not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    reading, writing = os.pipe() if kind == "closed" else (None, os.open("/dev/full", os.O_WRONLY))
    if reading is not None:
        os.close(reading)
    process = start(server, tmp_path, "--instruction", "a", "b", stdout=writing)
    os.close(writing)
    status, _, wrong = ended(process)
    assert status == 0
    assert len(results(tmp_path)) == 4
    assert wrong.count(b"is saved, but cannot be named on standard output") == 1


@only_posix
def test_who_stops_later_edits_knows_of_the_earlier_ones(server, tmp_path):
    options = ["--instruction", "a", "b", "--seed", "4711"]
    process = start(server, tmp_path, *options, steps=300, preexec_fn=heed_ctrl_c)
    assert process.stdout is not None
    first = [process.stdout.readline(), process.stdout.readline()]
    process.send_signal(signal.SIGINT)
    status, said, wrong = ended(process)
    assert status == 130 and b"Stopped." in wrong
    assert said == b""
    assert [line.decode().strip() for line in first] == [str(path) for path in results(tmp_path)]


@only_posix
def test_a_disk_that_is_full_leaves_no_beginning_of_a_picture(server, tmp_path):
    import resource

    def no_large_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    status, said, wrong = ended(start(server, tmp_path, preexec_fn=no_large_files))
    assert status == 1 and said == b""
    assert b"A result could not be saved" in wrong
    assert results(tmp_path) == []
