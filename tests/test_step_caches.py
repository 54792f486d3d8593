"""Step caches of the host and of other packs, before the early filter and the inversion."""

import functools

import pytest
import torch
from icedit.early_filter.budget import Budget
from icedit.early_filter.plan import Plan
from support.judges import ScriptedJudge, by_seed
from support.tiny_edit import conditioning, early_filter, sources

pytestmark = pytest.mark.host

SETTINGS = {"reuse_threshold": 0.2, "start_percent": 0.1, "end_percent": 0.95, "verbose": False}


@pytest.fixture
def filtered(host, models, edit):
    """Runs EarlyFilterSampler with small defaults; changes by name."""

    def run(**changes):
        judged = {"probe_steps": 2, "judge": ScriptedJudge(by_seed(s5=1.0))}
        samples, _, seed, report = early_filter(host, **models | edit | judged | changes)
        return samples, seed, report

    return run


@pytest.fixture
def inverted(host):
    """Runs InContextInversion with small defaults and a model that `change` was applied to."""

    def run(change):
        model = change(host.load_model(name="flux1-dev.safetensors"))
        diptych = torch.cat([sources(), sources()], dim=2)
        return host.call(
            "InContextInversion", model=model, source_prompt=conditioning(1), vae=host.load_vae(), diptych=diptych,
            steps=2, scheduler="simple", denoise=1.0, inversion_guidance=1.0, corrections=0, step_share=0.0,
            block_share=0.0, memory_limit=4.0, check=False,
        )  # fmt: skip

    return run


WRAPPER = """
def node():
    def model_unet_function_wrapper(apply_model, args):
        return apply_model(args["input"], args["timestep"], **args["c"])
    return model_unet_function_wrapper


class Wrapper:
    def __call__(self, apply_model, args):
        return apply_model(args["input"], args["timestep"], **args["c"])
"""


def from_pack(pack):
    """What a pack's file defines; it is installed below a folder with a name that proves nothing."""
    found = {}
    exec(compile(WRAPPER, f"/home/me/.cache/comfyui/custom_nodes/{pack}/nodes.py", "exec"), found)
    return found


def wrapped(model, function, options=None):
    clone = model.clone()
    clone.set_model_unet_function_wrapper(function)
    clone.model_options["transformer_options"] |= options or {}
    return clone


def teacache(model):
    return wrapped(model, from_pack("an-unknown-pack")["node"](), {"rel_l1_thresh": 0.4})


def wavespeed(model):
    return wrapped(model, from_pack("Comfy-WaveSpeed")["node"]())


def cache_by_key(model):
    from comfy.patcher_extension import WrappersMP

    clone = model.clone()
    clone.add_wrapper_with_key(
        WrappersMP.DIFFUSION_MODEL, "MagCache", lambda executor, *args, **kw: executor(*args, **kw)
    )
    return clone


KNOWN = [
    (teacache, "a TeaCache"),
    (wavespeed, r"a step cache \(node.<locals>.model_unet_function_wrapper of Comfy-WaveSpeed\)"),
    (lambda model: wrapped(model, from_pack("ComfyUI-FBCache")["Wrapper"]()), r"a step cache \(Wrapper of ComfyUI-FB"),
    (cache_by_key, r"a step cache \(MagCache\)"),
]


@pytest.mark.parametrize(("change", "name"), KNOWN)
def test_step_caches_are_refused_in_mode_resume_only(filtered, models, change, name):
    model = change(models["model"])
    with pytest.raises(ValueError, match=rf"The model carries {name}.*set mode to 'paper'"):
        filtered(model=model)
    _, seed, _ = filtered(model=model, mode="paper")
    assert seed == 5


@pytest.mark.parametrize(("change", "name"), KNOWN)
def test_step_caches_are_refused_before_an_inversion(inverted, change, name):
    with pytest.raises(ValueError, match=rf"The model carries {name}.*Put it after In-Context Inversion"):
        inverted(change)


@pytest.mark.parametrize(("node", "name"), [("EasyCache", "an EasyCache"), ("LazyCache", "a LazyCache")])
def test_the_hosts_caches_are_refused_before_an_inversion(host, inverted, node, name):
    with pytest.raises(ValueError, match=f"The model carries {name}"):
        inverted(lambda model: host.call(node, model=model, **SETTINGS)[0])


@pytest.mark.parametrize("kind", ["node", "Wrapper", "partial"])
def test_other_wrappers_are_pointed_out(filtered, inverted, models, caplog, kind):
    names = from_pack("some-pack")
    function = {
        "node": names["node"](),
        "Wrapper": names["Wrapper"](),
        "partial": functools.partial(names["node"]()),
    }[kind]
    with caplog.at_level("INFO"):
        filtered(model=wrapped(models["model"], function))
        assert "a wrapper that is not ComfyUI's" in caplog.text and " of some-pack" in caplog.text
        assert "set mode to 'paper'" in caplog.text
        caplog.clear()
        filtered(model=wrapped(models["model"], function), mode="paper")
        assert "wrapper" not in caplog.text
        inverted(lambda model: wrapped(model, function))
        assert "a wrapper that is not ComfyUI's" in caplog.text
        assert "put its node after In-Context Inversion" in caplog.text


def test_the_hosts_own_wrappers_are_not(host, filtered, models, caplog):
    import nodes

    settings = {
        "preserve_wrapper": True, "start_sigma": 1.0, "end_sigma": 0.0, "nerf_tile_size": 64,
        "force_sequential_txt_ids": False,
    }  # fmt: skip
    known = nodes.NODE_CLASS_MAPPINGS["ChromaRadianceOptions"].INPUT_TYPES()["required"]
    given = {name: value for name, value in settings.items() if name in known}
    (model,) = host.call("ChromaRadianceOptions", model=models["model"], **given)
    assert "model_function_wrapper" in model.model_options
    with caplog.at_level("INFO"):
        filtered(model=model)
    assert "wrapper" not in caplog.text


def every_second(kept, apply_model, args):
    """Computes every second step."""
    first = float(args["timestep"].max()) == 1
    kept["calls"] = 0 if first else kept["calls"] + 1
    if kept["calls"] % 2 == 0:
        kept["output"] = apply_model(args["input"], args["timestep"], **args["c"])
    return kept["output"]


def wavespeed_like(kept, apply_model, args):
    """Computes when the input differs much from that of the last step that was computed."""
    x, first = args["input"], float(args["timestep"].max()) == 1
    if first or float((x - kept["x"]).norm() / kept["x"].norm()) > 0.6:
        kept |= {"x": x.clone(), "output": apply_model(x, args["timestep"], **args["c"])}
    return kept["output"]


def teacache_like(kept, apply_model, args):
    """Computes when what has changed since the last step that was computed adds up; no change counts too."""
    x, first = args["input"], float(args["timestep"].max()) == 1
    if not first:
        kept["sum"] += 0.3 + 0.01 * float((x - kept["x"]).norm() / kept["x"].norm())
    kept["x"] = x.clone()
    if first or kept["sum"] > 1:
        kept |= {"sum": 0.0, "output": apply_model(x, args["timestep"], **args["c"])}
    return kept["output"]


@pytest.fixture
def resumed(edit):
    """Seed 3 in one run, and gone on with after some probes (seed, step)."""
    from icedit.host.early_filter.resume import ResumableSampler
    from icedit.host.sampling import ksampler_process, latent_rows

    def run(model, steps, probes):
        process = ksampler_process(model, steps, 1.0, "euler", "simple", edit["positive"], edit["negative"], 1.0)
        (row,) = latent_rows(model, edit["latent_image"])
        budget = Budget(Plan("resume", 3, 2, 2, 1, steps), 1, lambda *_: None)
        whole, gone_on = (ResumableSampler(process, row, budget) for _ in range(2))
        result = whole.finish(3).result
        for seed, step in probes:
            gone_on.probe(seed, step)
        return result, gone_on.finish(3)

    return run


@pytest.mark.parametrize("cache", [every_second, wavespeed_like])
def test_a_cache_left_with_another_seeds_state_is_found_out(resumed, models, cache):
    """A wrapper that nobody knows by name: its skipped step comes out otherwise when it is asked for again."""
    model = wrapped(models["model"], functools.partial(cache, {}))
    whole, finished = resumed(model, 6, [(3, 2), (4, 2)])
    assert (finished.changed, finished.afresh) == (True, True)
    assert torch.equal(finished.result, whole)


def test_an_easycache_would_not_be_found_out(host, resumed, models):
    """Why names are still refused: it computes the step that is asked for again, but decides by the two before it."""
    settings = SETTINGS | {"reuse_threshold": 3.0, "start_percent": 0.0}
    (model,) = host.call("EasyCache", model=models["model"], **settings)
    whole, finished = resumed(model, 6, [(3, 2), (4, 2)])
    assert not finished.changed
    assert not torch.equal(finished.result, whole)


def test_a_teacache_would_not_be_found_out(resumed, models):
    """Here it has the right state, gives the right answer, and counts it twice."""
    model = wrapped(models["model"], functools.partial(teacache_like, {}))
    whole, finished = resumed(model, 6, [(3, 2)])
    assert not finished.changed
    assert not torch.equal(finished.result, whole)
