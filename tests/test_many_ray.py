"""A manifest on Ray: where it is not installed the user is told, where it is actors may die."""

import json
import subprocess
import sys
import time

import pytest
from icedit.headless.cli import main
from support.many import arguments, known, made_once, manifest_of
from support.workflows import PACK


def test_without_ray_one_sentence_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    given = [*arguments(manifest_of(tmp_path, 2), "http://127.0.0.1:9"), "--ray"]
    assert main(given) == 2
    assert "Error: --ray takes the package ray: pip install -r " in capsys.readouterr().err
    assert (PACK / "headless" / "requirements-ray.txt").is_file()


@pytest.mark.server
@pytest.mark.timeout(300)
def test_an_actor_that_is_killed_is_started_again_and_its_edits_are_made(server, tmp_path):
    pytest.importorskip("ray")
    import psutil

    given = [*arguments(manifest_of(tmp_path, 16), server.url, server.url), "--ray"]
    driver = subprocess.Popen([sys.executable, "-m", "headless", *given], cwd=PACK, stdout=subprocess.PIPE, text=True)
    killed = 0
    while driver.poll() is None:
        if not killed and known(tmp_path / "out") > 2:
            actors = [one for one in psutil.Process(driver.pid).children(recursive=True) if _is_actor(one)]
            actors[0].kill()
            killed += 1
        time.sleep(0.05)
    assert driver.returncode == 0 and killed == 1
    lines = made_once(tmp_path / "out", 16)
    assert all(line["server"] == server.url and line["seconds"] > 0 for line in lines)
    assert "16 edits: 16 made, 0 failed." in (driver.stdout.read() if driver.stdout else "")
    assert json.loads((tmp_path / "out" / "fingerprint.json").read_text())["mini"] is False


def _is_actor(process) -> bool:
    import psutil

    try:
        return "MapWorker" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
