"""Training without a host: settings, draws, loss, optimizer, states, starting from a file."""

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from icedit.training.adapter import TrainedAdapter
from icedit.training.draw import drawn_pairs, drawn_times, step_generator
from icedit.training.errors import TrainingError
from icedit.training.fit import Occasions, fit
from icedit.training.loss import changed_patches, loss_weights, velocity_loss
from icedit.training.optimizers import new_optimizer, rate_factor
from icedit.training.pairs.pair import EditPair
from icedit.training.settings import TrainingSettings
from icedit.training.specialised import pairs_by_task, task_bits
from icedit.training.start import start_from
from icedit.training.states import LearningState, StateFolder
from icedit.training.targets import TargetLayer, paper_targets
from safetensors.torch import load_file
from support import golden

TARGETS = (
    TargetLayer("qkv", (("layer.q", 6), ("layer.k", 6)), 5),
    TargetLayer("out", (("layer.out", 6),), 7, routed=True),
)
SETTINGS = TrainingSettings(steps=8, learning_rate=0.05, rank=2, experts=3, schedule="linear")


def learning(settings=SETTINGS, folder=None, save_every=3, stop_at=None, stop=None, done=lambda _: None):
    """Train a small adapter to imitate fixed outputs, with states in a folder; the losses and the adapter."""
    adapter = TrainedAdapter(TARGETS, settings)
    state = LearningState.before_the_first_step(adapter, settings)
    states = StateFolder(folder, keep=2)
    states.load_last(state)

    def gradients(step):
        if step == stop_at:
            return stop()
        generator = step_generator(settings.seed, step)
        loss = torch.zeros(())
        for layer, target in zip(adapter.layers, TARGETS, strict=True):
            x = torch.randn(16, target.inputs, generator=generator)
            loss = loss + (layer(x, torch.zeros(16, target.outputs)) - x.sum(-1, keepdim=True)).square().mean()
        (loss + 0.01 * adapter.balance()).backward()
        return loss.item()

    fit(state, gradients, settings, states, Occasions(save_every, done))
    return state


def same(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"steps": 0}, "steps is 0"), ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"top_k": 5}, "at most 4 experts"), ({"caption_dropout": 1.0}, "below 1"),
        ({"optimizer": "SGD"}, "one of AdamW, Prodigy"), ({"shift": float("inf")}, "shift is inf"),
        ({"times": "late"}, "times is 'late', expected one of logit-normal, uniform"), ({"average": 1.0}, "below 1"),
    ],
)  # fmt: skip
def test_settings_that_no_training_can_have_are_refused(changes, word):
    with pytest.raises(TrainingError, match=word):
        TrainingSettings(**changes)


def test_the_targets_have_the_names_and_sizes_of_the_published_file():
    import json

    shapes = json.loads((golden.FOLDER / "full_size_key_shapes.json").read_text())
    hidden, sizes = 3072, {"img_in": (384, 3072)}
    for index in range(19):
        block = f"double_blocks.{index}.img"
        sizes |= {f"{block}_attn.qkv": (hidden, 3 * hidden), f"{block}_attn.proj": (hidden, hidden)}
        sizes |= {f"{block}_mod.lin": (hidden, 6 * hidden), f"{block}_mlp.2": (4 * hidden, hidden)}
    for index in range(38):
        block = f"single_blocks.{index}"
        sizes |= {f"{block}.linear1": (hidden, 7 * hidden), f"{block}.linear2": (5 * hidden, hidden)}
        sizes |= {f"{block}.modulation.lin": (hidden, 3 * hidden)}
    targets = paper_targets(sizes, 19, 38, routed=True)
    with torch.device("meta"):
        found = {}
        for target in targets:
            for name, rows in target.parts:
                matrices = {"A": [32, target.inputs], "B": [rows, 32]}
                for expert in [f".expert_{index}" for index in range(4)] if target.routed else [""]:
                    found |= {f"transformer.{name}.lora_{p}{expert}.weight": shape for p, shape in matrices.items()}
                if target.routed:
                    found[f"transformer.{name}.lora_route.weight"] = [4, target.inputs]
    assert found == shapes


def test_pairs_are_drawn_by_their_weight_and_by_the_step_alone():
    pairs = [EditPair("often", ("a", "b"), weight=3.0), EditPair("seldom", ("c",))]
    drawn = [found for step in range(400) for found in drawn_pairs(pairs, 5, step, 2, 0.25)]
    counts = Counter(found.pair.id for found in drawn)
    assert counts["often"] / len(drawn) == pytest.approx(0.75, abs=0.06)
    assert sum(found.instruction is None for found in drawn) / len(drawn) == pytest.approx(0.25, abs=0.06)
    assert {found.instruction for found in drawn} == {"a", "b", "c", None}
    assert drawn_pairs(pairs, 5, 7, 8, 0.25) == drawn_pairs(pairs, 5, 7, 8, 0.25)
    assert drawn_pairs(pairs, 5, 7, 8, 0.25) != drawn_pairs(pairs, 6, 7, 8, 0.25)


def drawn(shift, times):
    return drawn_times(4000, TrainingSettings(shift=shift, times=times), step_generator(1, 1))


def test_uniform_times_are_those_at_which_a_sampler_has_its_steps():
    plain, moved = (drawn(shift, "uniform") for shift in (0.0, 1.15))
    for share in (0.1, 0.5, 0.9):
        assert (plain < share).double().mean().item() == pytest.approx(share, abs=0.03)
    factor = torch.tensor(1.15).exp()
    assert torch.allclose(moved, factor * plain / (1 + (factor - 1) * plain))


def test_times_are_logit_normal_and_moved_by_the_shift():
    plain, moved = (drawn(shift, "logit-normal") for shift in (0.0, 1.15))
    assert plain.median().item() == pytest.approx(0.5, abs=0.03)
    assert torch.logit(plain).std().item() == pytest.approx(1.0, abs=0.05)
    factor = torch.tensor(1.15).exp()
    assert torch.allclose(moved, factor * plain / (1 + (factor - 1) * plain))


def test_the_loss_is_measured_where_the_settings_say():
    changed = torch.zeros(1, 2, 2, dtype=torch.bool)
    changed[0, 1, 0] = True
    latents = noise = torch.zeros(1, 3, 4, 8)

    def loss_of(rows, columns, **changes):
        velocity = torch.zeros(1, 3, 4, 8)
        velocity[..., rows, columns] = 1.0
        settings = TrainingSettings(changed_weight=5.0, **changes)
        return velocity_loss(velocity, latents, noise, loss_weights(changed, settings)).item()

    left, unchanged, edited = (slice(0, 2), slice(0, 2)), (slice(0, 2), slice(4, 6)), (slice(2, 4), slice(4, 6))
    assert loss_of(*left) == 0
    assert loss_of(*edited) == pytest.approx(5 * loss_of(*unchanged))
    assert loss_of(*left, right_panel_weight=0.5) == pytest.approx(loss_of(*unchanged, right_panel_weight=0.5))


def test_a_patch_counts_as_changed_when_something_in_it_differs_visibly():
    source = torch.full((32, 48, 3), 0.5)
    edited = source + 0.02 * torch.randn(source.shape, generator=torch.Generator().manual_seed(0))
    edited[20:24, 33:37, 1] = 1.0
    assert changed_patches(source, edited).nonzero().tolist() == [[1, 2]]


def test_rates_rise_first_and_then_follow_the_schedule():
    constant, cosine, linear = (
        TrainingSettings(steps=1000, schedule=name) for name in ("constant", "cosine", "linear")
    )
    assert rate_factor(0, constant) < 0.1 < 1 == rate_factor(999, constant)
    assert rate_factor(500, linear) == pytest.approx(0.5)
    assert rate_factor(500, cosine) == pytest.approx(0.5)
    assert rate_factor(250, cosine) > 0.8 > rate_factor(250, linear) > rate_factor(999, linear) > 0


def test_prodigy_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(TrainingError, match="pip install prodigyopt"):
        new_optimizer([torch.nn.Parameter(torch.zeros(1))], TrainingSettings(optimizer="Prodigy"))


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from support.pack import load_pack
load_pack()
from pathlib import Path
from test_training_logic import learning
learning(folder=Path({folder!r}), stop_at={at}, stop=lambda: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills in another way")
def test_a_killed_training_goes_on_from_its_last_state_bit_for_bit(tmp_path):
    whole = learning(folder=tmp_path / "whole")
    folder = tmp_path / "killed"
    program = KILLED.format(tests=str(Path(__file__).parent), folder=str(folder), at=5)
    killed = subprocess.run([sys.executable, "-c", program], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert StateFolder(folder).steps() == [3]
    (folder / "step_00000006.safetensors.part").write_bytes(b"half a state")
    resumed = learning(folder=folder)
    assert resumed.losses == whole.losses
    assert same(resumed.adapter, whole.adapter)
    assert sorted(path.name for path in folder.iterdir()) == ["step_00000006.safetensors", "step_00000008.safetensors"]


AVERAGED = replace(SETTINGS, average=0.9)


def test_what_comes_out_is_a_running_mean_where_one_is_asked_for(tmp_path):
    seen = []
    state = learning(AVERAGED, tmp_path, done=lambda state: seen.append(state.adapter.layers[1].up.detach().clone()))
    mean = torch.zeros_like(seen[0])
    for step, weights in enumerate(seen, start=1):
        mean = torch.lerp(mean, weights, 20 / (20 + step))
    with state.as_it_comes_out():
        assert torch.allclose(state.adapter.layers[1].up, mean, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(mean, seen[-1], rtol=1e-3)
    assert same(state.adapter, learning(folder=tmp_path / "plain").adapter), "learning itself is not changed"


def test_the_running_mean_is_resumed_bit_for_bit(tmp_path):
    class Stop(BaseException):
        pass

    def stop():
        raise Stop

    whole = learning(AVERAGED, tmp_path / "whole")
    with pytest.raises(Stop):
        learning(AVERAGED, tmp_path / "stopped", stop_at=4, stop=stop)
    resumed = learning(AVERAGED, tmp_path / "stopped")
    assert resumed.mean.tensors.keys() == whole.mean.tensors.keys()
    assert all(torch.equal(value, whole.mean.tensors[name]) for name, value in resumed.mean.tensors.items())


def test_settings_that_older_versions_did_not_have_do_not_hide_their_states():
    assert not {"times", "average"} & TrainingSettings().as_dict().keys()
    assert TrainingSettings(times="uniform", average=0.5).as_dict()["times"] == "uniform"


def test_an_interrupt_keeps_the_last_whole_step(tmp_path):
    class Interrupt(BaseException):
        pass

    def interrupt():
        raise Interrupt

    with pytest.raises(Interrupt):
        learning(folder=tmp_path, stop_at=5, stop=interrupt)
    assert StateFolder(tmp_path).steps() == [3, 5]
    assert same(learning(folder=tmp_path).adapter, learning(folder=tmp_path / "whole").adapter)


def test_a_loss_that_is_no_number_stops_the_training_and_keeps_the_state_before(tmp_path):
    with pytest.raises(TrainingError, match=r"loss of step 6 is nan.*state after step 3 is kept.*Lower learning_rate"):
        learning(folder=tmp_path, stop_at=5, stop=lambda: float("nan"))
    assert StateFolder(tmp_path).steps() == [3]


def test_a_full_disk_is_told_and_costs_no_state(tmp_path, monkeypatch):
    from icedit.training import states

    save = states.save_file

    def full(tensors, path, **rest):
        if "00000006" in str(path):
            path.write_bytes(b"as far as it went")
            raise OSError(28, "No space left on device")
        save(tensors, path, **rest)

    monkeypatch.setattr(states, "save_file", full)
    with pytest.raises(TrainingError, match=r"No space left.*Make room"):
        learning(folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000003.safetensors"]


def test_a_damaged_state_is_named(tmp_path):
    learning(folder=tmp_path)
    (tmp_path / "step_00000008.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match=r"step_00000008.*Delete it"):
        learning(folder=tmp_path)


def published(settings, seed):
    """The tensors of an adapter with something in every matrix, by their keys."""
    adapter = TrainedAdapter(TARGETS, settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return adapter


def outputs(adapter):
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        inputs = [torch.randn(64, target.inputs, generator=generator) for target in TARGETS]
        return [layer(x, torch.zeros(64, 6 * len(t.parts))) for layer, x, t in zip(adapter.layers, inputs, TARGETS)]  # noqa: B905


def test_a_larger_adapter_starts_as_the_file_that_it_goes_on_from():
    given = published(SETTINGS, seed=1)
    larger = TrainingSettings(rank=4, experts=7, seed=3)
    adapter = TrainedAdapter(TARGETS, larger)
    notes = start_from(adapter, given.file_tensors(), larger)
    assert notes == ["4 experts of each layer began as copies of the file's 3."]
    for found, wanted in zip(outputs(adapter), outputs(given), strict=True):
        # A copy's router is a little different, so single tokens near a border may go to another expert.
        assert ((found - wanted).abs().amax(-1) < 1e-4).float().mean() > 0.8
    routers = adapter.experts[0].router
    assert len({tuple(row.tolist()) for row in routers}) == 7


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"rank": 1}, "Set rank to 2 or more"), ({"experts": 2, "rank": 2}, "Set experts to 3 or more")],
)
def test_a_smaller_adapter_cannot_start_from_a_file(changes, word):
    settings = TrainingSettings(**changes)
    with pytest.raises(TrainingError, match=word):
        start_from(TrainedAdapter(TARGETS, settings), published(SETTINGS, 1).file_tensors(), settings)


def test_what_the_adapter_has_no_place_for_is_named():
    settings = TrainingSettings(rank=2, adapter="ordinary")
    with pytest.raises(TrainingError, match=r"layer\.out.*Choose the adapter MoE"):
        start_from(TrainedAdapter(TARGETS[:1], settings), published(SETTINGS, 1).file_tensors(), settings)


def test_a_state_holds_nothing_but_tensors_and_numbers(tmp_path):
    state = learning(folder=tmp_path)
    tensors = load_file(tmp_path / "step_00000008.safetensors")
    assert tensors["losses"].tolist() == state.losses


def test_experts_that_differ_by_kind_of_edit_are_told_from_those_that_do_not():
    generator = torch.Generator().manual_seed(0)
    tasks = ["move", "frame"] * 8
    alike = 100 + 10 * torch.rand(16, 2, 4, generator=generator)
    apart = torch.zeros(16, 2, 4)
    apart[0::2, :, 0] = apart[1::2, :, 2] = 400
    assert task_bits(apart, tasks).by_task == pytest.approx(1.0, abs=0.01)
    assert task_bits(apart, tasks).by_chance < 0.3
    assert task_bits(alike, tasks).by_task < 0.01
    assert task_bits(alike, tasks).evenness > 0.99 > 0.01 > task_bits(apart[::2], tasks[::2]).evenness
    assert pairs_by_task([EditPair("a", ("x",), "move"), EditPair("b", ("x",))]) == []
    named = [EditPair(str(index), ("x",), tasks[index % 2]) for index in range(40)]
    assert Counter(pair.task for pair in pairs_by_task(named)) == {"move": 8, "frame": 8}
