"""Inverting a flow, planning what is kept, and putting values into a panel; no host."""

import math

import pytest
import torch
from icedit.inversion.schedule import Schedule
from icedit.inversion.solver import invert, relative_error
from icedit.inversion.values import TokenGrid, ValuePlan

STEPS = 28
FLUX_BLOCKS = [("double", index) for index in range(19)] + [("single", index) for index in range(38)]


def schedule(steps: int = STEPS, start: float = 1.0) -> Schedule:
    return Schedule(torch.linspace(start, 0, steps + 1, dtype=torch.float64))


def curved(x, sigma):
    """A flow whose velocity depends on state and sigma."""
    return torch.sin(3 * x.roll(1, -1) + sigma) - x


def euler(velocity, x, levels):
    for step in range(levels.steps):
        high, low = levels.sigmas[step].item(), levels.sigmas[step + 1].item()
        x = x + (low - high) * velocity(x, high)
    return x


def inverted(corrections: int, velocity=curved, levels=None):
    picture = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels, seen = levels or schedule(), []
    result = invert(velocity, picture, levels, corrections, lambda step, state: seen.append((step, state)))
    return picture, result, seen


class TestSolver:
    def test_corrections_lead_back_to_the_picture(self):
        errors = {}
        for corrections in (0, 1, 3, 20):
            picture, result, _ = inverted(corrections)
            errors[corrections] = relative_error(euler(curved, result.state, schedule()), picture)
        assert errors[0] > 0.02
        assert errors[1] < errors[0] / 20
        assert errors[3] < errors[1] / 50
        assert errors[20] < 1e-4

    def test_steps_are_told_from_the_picture_to_the_noise(self):
        _, result, seen = inverted(2)
        assert [step for step, _ in seen] == list(reversed(range(STEPS)))
        assert torch.equal(seen[-1][1], result.state)

    def test_the_last_evaluation_of_a_step_is_at_the_state_that_sampling_passes(self):
        asked = []

        def velocity(x, sigma):
            asked.append((sigma, x))
            return curved(x, sigma)

        _, result, _ = inverted(20, velocity)
        last = dict(asked)
        x, levels = result.state, schedule()
        for step in range(STEPS):
            high, low = levels.sigmas[step].item(), levels.sigmas[step + 1].item()
            assert relative_error(last[high], x) < 1e-4
            x = x + (low - high) * curved(x, high)

    def test_it_ends_early_where_corrections_change_nothing(self):
        _, result, _ = inverted(20)
        assert result.evaluations < STEPS * 5
        assert result.residual <= 1e-5
        # Only the first step has no velocity to go on with.
        _, still, _ = inverted(20, lambda x, _: torch.ones_like(x))
        assert still.evaluations == STEPS + 1

    def test_a_diverging_step_keeps_what_it_had(self):
        _, result, _ = inverted(20, lambda x, _: 100 * x)
        assert torch.isfinite(result.state).all()
        assert result.evaluations < 4 * STEPS

    def test_without_corrections_nothing_is_known_about_them(self):
        _, result, _ = inverted(0)
        assert result.residual is None
        assert result.evaluations == STEPS

    def test_refusals(self):
        with pytest.raises(ValueError, match="corrections is -1"):
            inverted(-1)
        with pytest.raises(ValueError, match="left the finite numbers at sigma"):
            inverted(0, lambda x, _: x * math.nan)


class TestSchedule:
    def test_noise_for_a_sampler_that_starts_in_the_middle(self):
        levels, source, state = schedule(start=0.6), torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6)
        noise = levels.as_noise(state, source)
        assert torch.allclose(0.6 * noise + 0.4 * source, state, atol=1e-6)
        assert schedule().as_noise(state, source) is state

    def test_nearest(self):
        levels = schedule(4)
        assert levels.nearest(0.75) == (1, True)
        assert levels.nearest(0.7) == (1, False)
        # The end is no step: nothing is evaluated at 0.
        assert levels.nearest(0.0) == (3, False)

    @pytest.mark.parametrize("sigmas", [[], [0.0], [1.0, 0.5], [1.0, 0.5, 0.5, 0.0], [0.0, 1.0], [float("nan"), 0.0]])
    def test_refusals(self, sigmas):
        with pytest.raises(ValueError, match=r"no steps|expected falling ones that end at 0"):
            Schedule(torch.tensor(sigmas))


class TestPlan:
    def test_the_nodes_defaults_take_less_than_2_gb_of_flux(self):
        from icedit.nodes.inversion import InContextInversion

        inputs = {entry.id: entry for entry in InContextInversion.define_schema().inputs}
        steps, shares = inputs["steps"].default, (inputs["step_share"].default, inputs["block_share"].default)
        plan = ValuePlan.of(steps, FLUX_BLOCKS, *shares)
        assert (plan.steps, len(plan.blocks)) == (16, 19)
        assert plan.blocks == tuple(("single", index) for index in range(19, 38))
        assert 1.8e9 < plan.nbytes(1024, 3072, torch.bfloat16) < 2e9

    def test_everything_and_nothing(self):
        assert ValuePlan.of(28, FLUX_BLOCKS, 1.0, 1.0) == ValuePlan(28, tuple(FLUX_BLOCKS))
        assert ValuePlan.of(28, FLUX_BLOCKS, 0.0, 1.0) == ValuePlan.of(28, FLUX_BLOCKS, 1.0, 0.0) == ValuePlan(0, ())
        assert ValuePlan.of(28, FLUX_BLOCKS, 0.001, 0.001) == ValuePlan(1, (("single", 37),))
        assert ValuePlan(28, tuple(FLUX_BLOCKS)).nbytes(1024, 3072, torch.bfloat16) == 57 * 28 * 1024 * 3072 * 2

    def test_refusals(self):
        with pytest.raises(ValueError, match=r"step_share is 1.5, expected 0 to 1"):
            ValuePlan.of(28, FLUX_BLOCKS, 1.5, 1.0)
        with pytest.raises(ValueError, match=r"28 steps in 57 blocks would take 10.04 GB .* memory_limit is 4 GB"):
            ValuePlan(28, tuple(FLUX_BLOCKS)).check(57 * 28 * 1024 * 3072 * 2, 4.0)
        for limit in (float("nan"), float("inf"), -1.0):
            with pytest.raises(ValueError, match=f"memory_limit is {limit}, expected a number of gigabytes"):
                ValuePlan(0, ()).check(0, limit)


class TestGrid:
    def test_values_go_into_the_left_panel_and_nowhere_else(self):
        text, rows, panel, other = 5, 3, 4, 6
        values = torch.randn(2, 7, text + rows * 2 * panel + other, 8)
        given = [torch.randn(7, rows, panel, 8) for _ in range(2)]
        # As in a FLUX block, where they are a part of a larger tensor.
        strided = torch.stack([values, values], dim=-1)[..., 0]
        result = TokenGrid(rows, 2 * panel, panel).put(strided, text, given)
        picture = result[:, :, text : text + rows * 2 * panel].reshape(2, 7, rows, 2 * panel, 8)
        assert torch.equal(picture[:, :, :, :panel], torch.stack(given))
        left = torch.zeros(rows, 2 * panel, dtype=torch.bool)
        left[:, :panel] = True
        changed = torch.cat([torch.zeros(text).bool(), left.flatten(), torch.zeros(other).bool()])
        assert torch.equal(result[:, :, ~changed], values[:, :, ~changed])
        assert torch.equal(strided, values)

    def test_what_was_taken_from_a_panel_is_put_where_it_was(self):
        alone = torch.randn(1, 7, 9 + 12, 8)
        taken = TokenGrid(3, 4, 4).take(alone, 9)
        assert torch.equal(taken.flatten(2, 3), alone[:, :, 9:])
        diptych = TokenGrid(3, 8, 4)
        assert torch.equal(diptych.take(diptych.put(torch.randn(1, 7, 5 + 24, 8), 5, [taken[0]]), 5), taken)
