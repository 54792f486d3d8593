"""What users of a ComfyUI that is too old see: one sentence."""

import asyncio
import logging
import sys

import icedit
import pytest
from icedit.host.version import OLDEST, check_version
from support.workflows import PACK

SENTENCE = "ICEdit needs ComfyUI 0.16.3 or newer, and this is ComfyUI {}. Update ComfyUI, then restart it."


def pretend(monkeypatch, version):
    import comfyui_version

    monkeypatch.setattr(comfyui_version, "__version__", version)


@pytest.mark.parametrize("version", ["0.16.3", "0.17.0-rc1", "0.30.0", "1.0", "0.100.2.dev1"])
def test_new_enough(monkeypatch, version):
    pretend(monkeypatch, version)
    check_version()


@pytest.mark.parametrize("version", ["0.16.2", "0.3.76", "0.9.0"])
def test_the_host_itself_says_the_sentence_and_no_traceback(monkeypatch, caplog, version):
    import nodes

    pretend(monkeypatch, version)
    with caplog.at_level(logging.WARNING):
        assert asyncio.run(nodes.load_custom_node(str(PACK))) is False
    assert caplog.messages == [f"Error while calling comfy_entrypoint in {PACK}: {SENTENCE.format(version)}"]


def test_a_host_from_before_the_entrypoint_is_answered_too(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "comfy_api.latest", None)
    monkeypatch.setitem(sys.modules, "comfyui_version", None)
    assert not hasattr(icedit, "NODE_CLASS_MAPPINGS")
    assert caplog.messages == [SENTENCE.format("0.3.12 or older")]


def test_the_registry_is_told_the_same():
    import tomllib

    project = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["comfy"]["requires-comfyui"] == ">=" + ".".join(map(str, OLDEST))


@pytest.mark.host
def test_where_flux_does_not_show_its_attention_everything_is_computed_and_that_is_said(host, monkeypatch):
    import comfy.ldm.flux.layers
    from icedit.host.known_tokens.model import reuse_known_tokens
    from icedit.known_tokens.control import ReuseSettings

    def forward(self, x, vec, pe, attn_mask=None, transformer_options={}):  # noqa: B006
        raise AssertionError

    # As it was in 0.16.3.
    monkeypatch.setattr(comfy.ldm.flux.layers.SingleStreamBlock, "forward", forward)
    said: list[str] = []
    plain = host.load_model()
    model = reuse_known_tokens(plain, ReuseSettings(), said.append)
    assert model is not plain and not any(model.wrappers.values())
    assert "does not hand its attention to patches (attn1_patch), so everything is computed" in said[0]
    assert said[0].endswith("Update ComfyUI.")
