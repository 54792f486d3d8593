"""Picks, what is kept between runs, and early stops by score: without a host."""

import gc
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from icedit.early_filter.kept import KeepLimits, KeptCandidate, KeptRuns
from icedit.early_filter.outcome import Finished
from icedit.early_filter.picks import Picks, read_picks
from icedit.early_filter.plan import Plan
from icedit.early_filter.same_inputs import SeenInputs
from icedit.early_filter.stored_preview import Preview

PLAN = Plan("resume", 2**64 - 1, 3, 2, 1, 8)
"""Its seeds count on from the last one to 0 and 1."""


class Model:
    """Something that can be held weakly."""


@pytest.mark.parametrize(
    ("text", "pictures", "seeds"),
    [
        ("", 1, (None,)),
        ("  ", 2, (None, None)),
        ("8", 1, (8,)),
        ("0", 1, (0,)),
        ("8", 3, (8, 8, 8)),
        ("#1", 1, (2**64 - 1,)),
        ("# 3", 1, (1,)),
        ("8, ?, #2", 3, (8, None, 0)),
        ("8,", 2, (8, None)),
        (str(2**64 - 1), 1, (2**64 - 1,)),
        ("8 of 1a2b", 1, (8,)),
        ("8, 9 of 1a2b", 2, (8, 9)),
    ],
)
def test_picks_are_read(text, pictures, seeds):
    assert read_picks(text, PLAN, pictures, "1a2b") == Picks(seeds)


def test_a_pick_for_other_inputs_counts_no_longer():
    assert read_picks("8, 9, 8 of 3c4d", PLAN, 3, "1a2b") == Picks((None,) * 3, (8, 9))
    # Where it is not known what the inputs are, it is meant as it stands.
    assert read_picks("8 of 3c4d", PLAN, 1, None) == Picks((8,))


@pytest.mark.parametrize("text", ["eight", "8.0", "-8", "#", "#0", "#4", "8;9", str(2**64), "of 1a2b extra", "٣x"])
def test_what_is_no_pick_is_refused(text):
    with pytest.raises(ValueError, match="picked is"):
        read_picks(text, PLAN, 1, "1a2b")


@pytest.mark.parametrize(("text", "pictures"), [("1, 2", 3), ("1, 2", 1), (",,", 2)])
def test_picks_for_another_number_of_pictures_are_refused(text, pictures):
    with pytest.raises(ValueError, match=f"latent_image holds {pictures} pictures"):
        read_picks(text, PLAN, pictures, None)


def inputs(model: Any, **changes: Any) -> list[Any]:
    cond = {"pooled": TENSOR, "guidance": 3.5, "area": (1, 2), "none": None, "dtype": torch.float16} | changes
    return [model, [[TENSOR, cond]], {"samples": TENSOR}, [], 28]


TENSOR, OTHER = torch.zeros(2), torch.zeros(2)


def test_the_same_objects_and_values_are_recognized():
    model = Model()
    seen = SeenInputs(inputs(model), lambda: None)
    assert seen.same(inputs(model))
    assert not seen.same(inputs(Model()))
    # Equal tensors are not the same one, and True is no 1.
    for change in ({"pooled": OTHER}, {"guidance": 4.0}, {"guidance": True}, {"area": (1, 3)}, {"more": 1}):
        assert not seen.same(inputs(model, **change)), change
    assert not seen.same(inputs(model)[:-1])
    assert not SeenInputs([1], lambda: None).same([True])
    assert not SeenInputs([[]], lambda: None).same([{}])


def test_an_object_that_is_gone_is_told():
    gone, model = [], Model()
    seen = SeenInputs(inputs(model), lambda: gone.append(1))
    del model
    gc.collect()
    assert gone == [1]
    assert not seen.same(inputs(None))


def candidate(seed: int, step: int = 2) -> KeptCandidate:
    return KeptCandidate(step, Preview(seed, torch.zeros(4, 8, 3)))


PREVIEW, RECORDING = 4 * 8 * 3 * 2, 1000


def keep(runs: KeptRuns, owner: str, model: Any, seeds: range) -> Any:
    run = runs.of(owner, [model], [1])
    for seed in seeds:
        run.pictures[0].recordings[0][seed] = SimpleNamespace(nbytes=RECORDING)
        run.pictures[0].keep(seed, candidate(seed))
    return run


def test_a_node_keeps_what_belongs_to_its_inputs_and_loses_it_with_them():
    runs, model, other = KeptRuns(), Model(), Model()
    keep(runs, "a", model, range(3))
    keep(runs, "b", model, range(2))
    assert (runs.count, runs.nbytes) == (5, 5 * (PREVIEW + RECORDING))
    assert list(runs.of("a", [model], [1]).pictures[0].candidates) == [0, 1, 2]
    # Another node's are not touched.
    assert runs.of("a", [other], [1]).pictures[0].candidates == {}
    assert runs.count == 2
    keep(runs, "a", other, range(1))
    del model
    gc.collect()
    assert runs.count == 1


def test_what_is_dropped_is_free_at_once():
    import weakref

    runs, model = KeptRuns(), Model()
    run = keep(runs, "a", model, range(1))
    held = weakref.ref(run.pictures[0].candidates[0].preview)
    del run
    gc.disable()
    try:
        runs.of("a", [Model()], [1])
        assert held() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        (KeepLimits(candidates=4), {"a": [2, 0], "b": [0, 1]}),
        (KeepLimits(nbytes=3 * (PREVIEW + RECORDING)), {"a": [0], "b": [0, 1]}),
        (KeepLimits(), {"a": [1, 2, 0], "b": [0, 1]}),
        (KeepLimits(nbytes=0), {"a": [], "b": []}),
    ],
)
def test_what_was_used_longest_ago_goes_first(limits, left):
    runs, model = KeptRuns(limits), Model()
    run = keep(runs, "a", model, range(3))
    run.pictures[0].keep(0, candidate(0))
    keep(runs, "b", model, range(2))
    runs.trim()
    assert {owner: list(runs.of(owner, [model], [1]).pictures[0].candidates) for owner in "ab"} == left
    assert runs.nbytes <= limits.nbytes and runs.count <= limits.candidates


def test_a_finished_candidate_counts_with_its_result():
    runs, model = KeptRuns(), Model()
    run = keep(runs, "a", model, range(1))
    end = Finished(torch.zeros(1, 16, 4, 8), 6, 8)
    run.pictures[0].keep(0, KeptCandidate(2, candidate(0).preview, end))
    assert runs.nbytes == PREVIEW + RECORDING + 16 * 4 * 8 * 4
    run.pictures[0].drop_recording(0)
    assert runs.nbytes == PREVIEW + 16 * 4 * 8 * 4
