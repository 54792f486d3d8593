"""One ordinary LoRA in place of experts: what it is the best of, against products that are formed in full."""

from dataclasses import replace

import pytest
import torch
from icedit.training import flatten
from icedit.training.flatten import ExpertFactors, errors_in_words, flatten_layer
from icedit.training.usage import LayerTally, specialisation

EXPERTS, RANK, INPUTS, OUTPUTS, HEIGHT, WIDTH = 4, 3, 40, 24, 16, 32
MANY = 10**9
"""Pictures: what is assumed without data then weighs nothing."""


@pytest.fixture(scope="module")
def layer():
    """Factors, tokens `n in`, each token's weights `n experts`, and what the routed layer adds, all float64."""
    draw = torch.Generator().manual_seed(3)
    down = [torch.randn(RANK, INPUTS, generator=draw) for _ in range(EXPERTS)]
    up = [torch.randn(OUTPUTS, RANK, generator=draw) for _ in range(EXPERTS)]
    scales = torch.linspace(2.0, 0.2, INPUTS)
    tokens = (torch.randn(HEIGHT * WIDTH, INPUTS, generator=draw) * scales + 0.5).double()
    router = torch.randn(EXPERTS, INPUTS, generator=draw).double() + torch.tensor([[0.1], [0.0], [0.0], [-0.1]])
    weights = torch.nn.functional.one_hot((tokens @ router.T).argmax(-1), EXPERTS).double()
    parts = [tokens @ (b @ a).double().T for a, b in zip(down, up, strict=True)]
    added = sum(weights[:, index, None] * part for index, part in enumerate(parts))
    return ExpertFactors(tuple(down), tuple(up)), tokens, weights, added


@pytest.fixture(scope="module")
def usage(layer):
    factors, tokens, weights, _ = layer
    tally = LayerTally("single_blocks.0.linear2", RANK, EXPERTS, 1, HEIGHT, WIDTH)
    hidden = (tokens @ factors.all_down.double().T).float()
    for _ in range(2):
        tally.add(hidden[None], weights[None].float(), 0, 0)
    return with_pictures(tally.finished(), MANY)


def with_pictures(usage, pictures):
    return replace(usage, pictures=pictures)


def product(flat):
    return (flat.up @ flat.down).double()


def off(tokens, matrix, added):
    return ((tokens @ matrix.T - added).norm() / added.norm()).item()


def average(factors, shares):
    return sum(share * (b @ a).double() for share, a, b in zip(shares, factors.down, factors.up, strict=True))


def test_equal_weights_of_full_rank_are_the_average(layer):
    factors = layer[0]
    flat = flatten_layer(factors, "equal", 0, None)
    assert flat.down.shape == (EXPERTS * RANK, INPUTS)
    assert torch.allclose(product(flat), average(factors, [0.25] * 4), rtol=1e-5, atol=1e-5)
    # Experts without anything in common: three quarters of the square are lost.
    assert flat.error == pytest.approx(0.75**0.5, abs=0.06)


def test_measured_weights_are_the_shares(layer, usage):
    factors, tokens, weights, added = layer
    flat = flatten_layer(factors, "measured", 0, usage)
    wanted = average(factors, weights.mean(0).tolist())
    assert torch.allclose(product(flat), wanted, rtol=1e-4, atol=1e-4)
    assert flat.error == pytest.approx(off(tokens, wanted, added), rel=1e-4)


@pytest.mark.parametrize("rank", [1, 5])
def test_a_smaller_rank_without_data_is_the_nearest_matrix(layer, rank):
    factors = layer[0]
    flat = flatten_layer(factors, "equal", rank, None)
    assert flat.down.shape == (rank, INPUTS)
    left, values, right = torch.linalg.svd(average(factors, [0.25] * 4), full_matrices=False)
    nearest = (left[:, :rank] * values[:rank]) @ right[:rank]
    assert torch.allclose(product(flat), nearest, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [0, 2, 5])
def test_a_fit_is_the_best_that_the_hidden_vectors_allow(layer, usage, rank):
    factors, tokens, _, added = layer
    hidden = tokens @ factors.all_down.double().T
    best = hidden @ torch.linalg.lstsq(hidden, added).solution
    if rank:
        # Of all outputs of that rank the nearest to a linear fit is its truncated singular value decomposition.
        left, values, right = torch.linalg.svd(best, full_matrices=False)
        best = (left[:, :rank] * values[:rank]) @ right[:rank]
    wanted = ((best - added).norm() / added.norm()).item()
    flat = flatten_layer(factors, "fitted", rank, usage)
    assert off(tokens, product(flat), added) == pytest.approx(wanted, rel=1e-4)
    assert flat.error == pytest.approx(wanted, rel=1e-4)
    assert wanted < flatten_layer(factors, "measured", rank, usage).error


def test_the_less_was_seen_the_nearer_a_fit_is_to_the_average(layer, usage, monkeypatch):
    factors, wanted = layer[0], average(layer[0], [0.25] * 4)
    fits = [flatten_layer(factors, "fitted", 0, with_pictures(usage, pictures)) for pictures in (MANY, 10, 1)]
    away = [(product(flat) - wanted).norm().item() for flat in fits]
    assert away[0] > away[1] > away[2]
    assert fits[0].error < fits[1].error < fits[2].error < flatten_layer(factors, "equal", 0, usage).error
    monkeypatch.setattr(flatten, "PRIOR_PICTURES", 1e9)
    nothing_known = flatten_layer(factors, "fitted", 0, with_pictures(usage, 1))
    assert torch.allclose(product(nothing_known), wanted, rtol=1e-3, atol=1e-3)


def test_experts_that_are_alike_lose_nothing(layer):
    factors = layer[0]
    alike = ExpertFactors(factors.down[:1] * EXPERTS, factors.up[:1] * EXPERTS)
    flat = flatten_layer(alike, "equal", RANK, None)
    assert flat.error < 1e-4
    assert torch.allclose(product(flat), average(factors, [1, 0, 0, 0]), rtol=1e-4, atol=1e-4)
    assert flat.up.norm(dim=0).allclose(flat.down.norm(dim=1), rtol=1e-3), "half precision wants factors of one size"


def test_experts_of_zeros_make_a_lora_of_zeros(layer):
    factors = layer[0]
    untrained = ExpertFactors(factors.down, tuple(torch.zeros_like(up) for up in factors.up))
    for rank in (0, 2):
        flat = flatten_layer(untrained, "equal", rank, None)
        assert flat.error == 0
        assert product(flat).abs().max() == 0


def test_what_a_figure_was_measured_on_is_said(layer, usage):
    flat = flatten_layer(layer[0], "fitted", 0, usage)
    said = {errors_in_words([flat], *how) for how in (("equal", False), ("equal", True), ("fitted", True))}
    assert len(said) == 3
    assert any("estimated" in text for text in said)
    assert any("fitted to; it is larger for other pictures" in text for text in said)


def test_specialisation_of_known_tables():
    same = torch.tensor([[30.0, 10.0], [60.0, 20.0]])
    sorted_ = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    both = specialisation(torch.stack([same, sorted_]))
    assert both[0] == pytest.approx(0.0, abs=1e-9)
    assert both[1] == pytest.approx(1 - 1 / (2 * 0.6931 * 100), abs=1e-3)
    with pytest.raises(ValueError, match="no counts"):
        specialisation(torch.stack([same, torch.zeros(2, 2)]))


def test_chance_alone_is_no_specialisation():
    draw = torch.Generator().manual_seed(2)
    drawn = torch.multinomial(torch.ones(24), 400 * 60, replacement=True, generator=draw).view(400, 60)
    counts = torch.stack([torch.bincount(row, minlength=24) for row in drawn]).view(400, 6, 4)
    joint = counts.double() / 60
    plain = torch.special.xlogy(joint, joint / (joint.sum(2, True) * joint.sum(1, True))).nansum((1, 2)) / 0.6931
    assert plain.mean() > 0.15
    assert specialisation(counts).mean() < plain.mean() / 4
