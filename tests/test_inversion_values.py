"""What keeping attention values costs on the real host, for how long, and under torch.compile."""

import gc
import weakref

import pytest
import torch
from support import golden
from support.inversion import STEPS, pictures

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("one_thread", "shows_values")]


def test_ordinary_ram_that_goes_with_the_result(inverted, edited, monkeypatch):
    """Pinned memory would be the host's to give: it cannot take any back from what a cached result holds."""
    import comfy.model_management

    def refuse(*_, **__):
        raise AssertionError("pinned")

    monkeypatch.setattr(comfy.model_management, "pin_memory", refuse)
    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
    model, latent, report = inverted()
    edited(model, latent)
    (picture,) = pictures(model)
    values = [picture.values.at(step) for step in range(STEPS)]
    assert sum(one.nbytes for one in values) == report["held"]["bytes"]
    assert not any(one.is_pinned() for one in values)
    alive = [weakref.ref(one) for one in values]
    del model, picture, values
    gc.collect()
    assert not any(one() is not None for one in alive)


def test_the_host_may_drop_old_results_first(inverted, monkeypatch):
    """Asked once, for all that will be kept and what the host itself leaves free, before the work."""
    memory = pytest.importorskip("comfy.memory_management")
    if not hasattr(memory, "extra_ram_release"):
        pytest.skip("this ComfyUI drops no results where RAM runs short")
    asked = []
    monkeypatch.setattr(memory, "extra_ram_release", lambda target, **_: asked.append(target) or 0)
    monkeypatch.setattr(memory, "RAM_CACHE_HEADROOM", 1000)
    _, _, report = inverted()
    assert asked == [report["held"]["bytes"] + 1000]
    inverted(step_share=0.0)
    assert len(asked) == 1


def test_only_what_is_kept_is_copied(host, inverted, monkeypatch):
    sampler = host.module("host.inversion.sampler")
    readings, reading = [], sampler.Reading

    def remember(*args):
        readings.append(reading(*args))
        return readings[-1]

    monkeypatch.setattr(sampler, "Reading", remember)
    inverted(corrections=0, step_share=0.5)
    copied = [[values is not None for values in one.found.values()] for one in readings]
    # From the picture to noise: the first steps of sampling come last. Two blocks.
    assert copied == [[False] * 2] * (STEPS // 2) + [[True] * 2] * (STEPS // 2)


@pytest.mark.parametrize("step_share", [1.0, 0.5])
def test_a_compiled_model_keeps_and_takes_the_same_values(host, inverted, text_to_image, edited, step_share):
    """Also one that was compiled without patches: the host's node has torch ignore what is new in its options."""
    if not hasattr(torch.compiler, "set_stance"):
        pytest.skip("this torch cannot leave compiled code aside")
    torch._dynamo.reset()
    plain, latent, _ = inverted(step_share=step_share)
    (compiled,) = host.call("TorchCompileModel", model=text_to_image["model"], backend="eager")
    without = edited(compiled, latent)
    model, same, _ = inverted(model=compiled, step_share=step_share)
    for step in range(STEPS):
        wanted, found = (pictures(one)[0].values.at(step) for one in (plain, model))
        assert (wanted is None) == (found is None)
        assert wanted is None or golden.difference(found, wanted) <= golden.TOLERANCE
    wanted = edited(plain, latent)
    assert golden.difference(edited(model, same), wanted) <= golden.TOLERANCE
    assert golden.difference(without, wanted) > 1e-3
    # Elsewhere it is compiled as before.
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert golden.difference(edited(compiled, latent), without) <= golden.TOLERANCE
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before
