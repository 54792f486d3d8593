"""A manifest on Ray: where it is not installed the user is told, where it is actors may die."""

import json
import subprocess
import sys
import time

import pytest
from icedit.headless.cli import main
from icedit.headless.errors import ComfyError
from icedit.headless.many import ray_run
from icedit.headless.many.limits import FailuresInARow
from icedit.headless.many.manifest import Problems, read_manifest
from icedit.headless.many.plan import ManifestSettings, make_plan
from icedit.headless.many.results import opened_results
from icedit.headless.many.run import ManifestRun
from support.many import arguments, known, made_once, manifest_of
from support.workflows import PACK, WORKFLOWS


def test_without_ray_one_sentence_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    given = [*arguments(manifest_of(tmp_path, 2), "http://127.0.0.1:9"), "--ray"]
    assert main(given) == 2
    assert "Error: --ray takes the package ray: pip install -r " in capsys.readouterr().err
    assert (PACK / "headless" / "requirements-ray.txt").is_file()


def test_failures_of_servers_on_ray_end_the_run_and_those_of_pictures_do_not(tmp_path):
    manifest = read_manifest(manifest_of(tmp_path, 6), (), Problems())
    plan = make_plan(manifest, ManifestSettings(str(WORKFLOWS / "api" / "icedit.json"), False), Problems())
    told = []
    with opened_results(tmp_path / "out", {}, manifest.rows, False) as results:
        run, in_a_row = ManifestRun(manifest, plan, results), FailuresInARow(2)

        def keep(number, **values):
            answer = {"row": manifest.rows[number].to_json(), "picture": b"", "how": "", "error": "", "left": False}
            ray_run._keep({**answer, "servers": True, **values}, run, told.append, in_a_row)

        keep(0, error="it cannot be read", servers=False)
        keep(1, error="it cannot be read", servers=False)
        keep(2, error="CUDA error")
        how = {"suffix": ".png", "seed": 1, "score": None, "seconds": 1.0, "server": "http://a"}
        keep(3, picture=b"made", how=json.dumps(how))
        keep(4, error="CUDA error")
        with pytest.raises(ComfyError, match="The last 2 edits all failed for the same reason"):
            keep(5, error="CUDA error")
    assert told == [False, False, False, True, False]
    assert len(results.done) == 6


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
