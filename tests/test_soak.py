"""The first prompts of benchmarks/soak.py: good, bad and interrupted ones, six at a time, on one server."""

import asyncio
import importlib

import pytest
from support.workflows import PACK

PROMPTS = 15


@pytest.mark.server
def test_every_prompt_of_a_mixed_queue_gets_what_it_should(server, monkeypatch):
    monkeypatch.syspath_prepend(PACK / "benchmarks")
    soak = importlib.import_module("soak")
    monkeypatch.setattr(soak, "PROMPTS", PROMPTS)
    record, stray = asyncio.run(soak.soak(server))
    assert record.wrong == []
    assert record.done == {soak.VALID: 11, soak.INVALID: 3, soak.INTERRUPTED: 1}
    assert stray == set()
