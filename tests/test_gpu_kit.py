"""The kit for a GPU machine, on the CPU and with a tiny model: its list, its budget, its entries' figures."""

import importlib
import json
import sys
import tarfile
import time
import zipfile

import pytest
from support.workflows import PACK

KIT = PACK / "benchmarks" / "gpu"


@pytest.fixture
def kit(monkeypatch):
    monkeypatch.syspath_prepend(PACK / "benchmarks")
    return importlib.import_module("gpu.run")


def started(program):
    """Entries that are programs of one line, which may use the name `entry`."""
    return lambda entry: [sys.executable, "-c", f"entry = {entry!r}\n{program}"]


def test_every_entry_of_the_list_has_its_file(kit):
    files = {path.stem for path in (KIT / "entries").glob("*.py")} - {"__init__"}
    assert {entry.split("_")[0] if entry.startswith("memory_") else entry for entry in kit.ENTRIES} == files
    assert len(set(kit.ENTRIES)) == len(kit.ENTRIES)


def test_an_entry_that_fails_keeps_its_figures_and_stops_no_other(kit):
    program = "print('{\"figure\": 1}')\nprint('noise')\nif entry == 'bad': raise ValueError('no such card')"
    bad, good = kit.run_list(["bad", "good"], started(program), 60, {})
    assert bad["entry"] == "bad"
    assert bad["figure"] == good["figure"] == 1
    assert "no such card" in bad["error"]
    assert "error" not in good


def test_the_budget_stops_an_entry_and_leaves_out_the_rest(kit, monkeypatch):
    monkeypatch.setattr(kit, "LEAST_SECONDS", 0.5)
    program = "import time\nprint('{\"figure\": 1}', flush=True)\ntime.sleep(100)"
    begun = time.monotonic()
    first, second = kit.run_list(["first", "second"], started(program), 1.5, {})
    assert time.monotonic() - begun < 60
    assert (first["figure"], "stopped_after_s" in first) == (1, True)
    assert "used up" in second["left_out"]


def test_no_entry_gets_more_than_its_share(kit, monkeypatch):
    monkeypatch.setattr(kit, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(kit, "MOST_SECONDS", 0.5)
    first, second = kit.run_list(["first", "second"], started("import time; time.sleep(100)"), 1000, {})
    assert "stopped_after_s" in first
    assert "stopped_after_s" in second


def test_a_bundle_is_found_by_the_programs_that_need_it(kit, tmp_path):
    bundle = tmp_path / "bundle"
    (bundle / "wheels").mkdir(parents=True)
    (tmp_path / "main.py").write_text("")
    with tarfile.open(bundle / "comfyui.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "main.py", "ComfyUI/main.py")
    with zipfile.ZipFile(bundle / "wheels" / "one-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("one.py", "value = 1")
    environment = kit.unpacked(bundle, tmp_path)
    program = "import os, json, one, av.container; print(json.dumps({'host': os.listdir(os.environ['ICEDIT_HOST'])}))"
    (result,) = kit.run_list(["first"], started(program), 60, environment)
    assert sorted(result["host"]) == ["input", "main.py", "models", "output"]


def test_what_is_packed_and_that_it_must_fit(kit, monkeypatch, tmp_path):
    bundle = importlib.import_module("gpu.bundle")
    monkeypatch.setattr(bundle, "_download_wheels", lambda *_: None)
    host = tmp_path / "ComfyUI"
    for name in ("main.py", "tests/big.py", "models/user.safetensors", "comfy/ldm/models/vae.py", "__pycache__/a.pyc"):
        (host / name).parent.mkdir(parents=True, exist_ok=True)
        (host / name).write_text("")
    size = bundle.build(host, tmp_path / "bundle")
    with tarfile.open(tmp_path / "bundle" / "comfyui.tar.xz") as archive:
        files = {member.name for member in archive if member.isfile()}
    assert files == {"ComfyUI/main.py", "ComfyUI/comfy/ldm/models/vae.py"}
    monkeypatch.setattr(bundle, "LIMIT", size - 1)
    with pytest.raises(SystemExit, match="expected at most"):
        bundle.build(host, tmp_path / "bundle")
    assert (tmp_path / "bundle").is_dir()


@pytest.fixture
def setting(host, kit, tmp_path):
    """A tiny setting with the host that runs already."""
    from gpu.setting import SIZES, Setting

    setting = Setting(SIZES["tiny"], tmp_path)
    setting.host = host
    return setting


PROMISED = {
    "layer": {"float32_product", "8 tokens", "40 tokens"},
    "step": {"plain", "lora", "moe_lora", "moe_lora_ratio", "four_steps"},
    "early_filter": {"plain", "filter", "six"},
    "fp8": {"kitchen", "fp8_e4m3fn", "fp8_e4m3fn moe_lora", "fp8_e4m3fn ratio"},
}


@pytest.mark.host
@pytest.mark.parametrize("entry", PROMISED)
def test_an_entry_gives_the_figures_that_it_promises(setting, entry):
    figures = {}
    for part in importlib.import_module(f"gpu.entries.{entry}").figures(setting):
        figures |= part
    assert PROMISED[entry] <= json.loads(json.dumps(figures)).keys()


@pytest.mark.host
def test_ways_to_compute_a_routed_layer_that_are_compared_compute_the_same(setting):
    import torch
    from icedit.host.moe_lora.experts import RoutedExperts

    variants = importlib.import_module("routed_variants")
    layer = RoutedExperts([variants.random_routed(96, 64, rank=8, experts=4)], torch.float32, False).layers[0]
    x, base = torch.randn(2, 40, 96), torch.randn(2, 40, 64)
    with torch.inference_mode():
        for top_k in (1, 2):
            wanted = layer(x, base, 0.7, top_k)
            for name, way in variants.VARIANTS.items():
                torch.testing.assert_close(way(layer, x, base, 0.7, top_k), wanted, msg=name)


@pytest.mark.host
def test_what_this_version_lacks_is_said(setting):
    from gpu.setting import NotInThisVersionError

    with pytest.raises(NotInThisVersionError, match="the node NoSuchNode"):
        setting.require("NoSuchNode")
