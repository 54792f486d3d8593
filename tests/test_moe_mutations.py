"""Mutated adapter files: each is refused or used whole, and the model that came in stays as it was."""

import logging

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from support import golden, moe

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def model(vectors):
    return vectors.load_model()


KEYS = sorted(moe.golden_tensors("top1"))
KEY = st.sampled_from(KEYS)
WORDS = (
    "transformer.",
    "lora_A",
    "lora_B",
    "lora_route",
    "expert_0",
    "expert_1",
    "proj_out",
    "attn.to_q",
    ".weight",
    "0",
    "1",
)
WORD = st.sampled_from((*WORDS, "lora_up", "lora_down", "alpha", "default", "", "expert_9", "diffusion_model.", "x"))


def drop(tensors, key):
    tensors.pop(key, None)


def rename(tensors, key, old, new):
    if key in tensors:
        tensors[key.replace(old, new)] = tensors.pop(key)


def copy(tensors, key, other):
    if key in tensors:
        tensors[other] = tensors[key].clone()


def reshape(tensors, key, change):
    if key in tensors:
        tensor = tensors[key]
        changed = {
            "t": tensor.mT if tensor.ndim > 1 else tensor,
            "cut": tensor[:1],
            "flat": tensor.flatten(),
            "none": tensor[:0],
        }
        tensors[key] = (changed | {"more": tensor[None], "one": tensor.flatten()[:1]})[change].contiguous()


def retype(tensors, key, dtype):
    if key in tensors:
        tensors[key] = tensors[key].to(dtype)


def poison(tensors, key, value):
    if key in tensors and tensors[key].is_floating_point() and tensors[key].numel():
        tensors[key].view(-1)[0] = value


DTYPES = [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.bool, torch.uint8, torch.float8_e4m3fn]
MUTATION = st.one_of(
    st.tuples(st.just(drop), KEY),
    st.tuples(st.just(rename), KEY, st.sampled_from(WORDS), WORD),
    st.tuples(st.just(copy), KEY, st.one_of(KEY, st.text(max_size=12))),
    st.tuples(st.just(reshape), KEY, st.sampled_from(["t", "cut", "flat", "none", "more", "one"])),
    st.tuples(st.just(retype), KEY, st.sampled_from(DTYPES)),
    st.tuples(st.just(poison), KEY, st.sampled_from([float("nan"), float("inf"), 1e30, 0.0])),
)
DAMAGE = st.one_of(
    st.just(None),
    st.tuples(st.just("cut"), st.integers(0, 10**6)),
    st.tuples(st.just("flip"), st.integers(0, 12000), st.integers(1, 255)),
)


def damaged(content, damage):
    if damage is None:
        return content
    if damage[0] == "cut":
        return content[: damage[1] % len(content)]
    changed = bytearray(content)
    changed[damage[1] % len(content)] ^= damage[2]
    return bytes(changed)


class ErrorLog(logging.Handler):
    """What the host logs when it leaves out a patch."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def test_500_mutated_files(loras, model, vectors, monkeypatch):
    """Whatever the file, it is our error or a whole adapter; the model is as it was either way."""
    before, log, outcomes = golden.evaluate(model, vectors), ErrorLog(), {"refused": 0, "used": 0}
    error = loras.host.module("moe_lora.errors").AdapterError
    adapters = loras.host.module("host.moe_lora.files")

    @settings(max_examples=500, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(MUTATION, min_size=1, max_size=3), DAMAGE)
    def mutate(mutations, damage):
        tensors = moe.golden_tensors("top1")
        for function, *arguments in mutations:
            function(tensors, *arguments)
        name = loras.write(damaged(save(tensors), damage), "mutated.safetensors")
        adapters._held.clear()
        try:
            patched = loras.load(model, name)
        except error as refusal:
            outcomes["refused"] += 1
            assert len(str(refusal)) > 40
        else:
            outcomes["used"] += 1
            # The host merges the patches, and logs what does not fit, when it loads; that takes its time.
            if outcomes["used"] % 5 == 0:
                assert golden.evaluate(patched, vectors).shape == before.shape
        assert moe.untouched(model)

    logging.getLogger().addHandler(log)
    try:
        mutate()
    finally:
        logging.getLogger().removeHandler(log)
    assert not [line for line in log.lines if "ERROR" in line or "not loaded" in line.lower() or "WARNING" in line]
    assert golden.evaluate(model, vectors).equal(before)
    assert min(outcomes.values()) >= 20, outcomes
