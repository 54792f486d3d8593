"""Which tokens are known, when they are computed, what is kept of them, and what is foretold."""

import pytest
import torch
from icedit.known_tokens.control import MOST_LEFT_OUT, Control, Extent, ReuseSettings, Unchanged
from icedit.known_tokens.forecast import Forecast
from icedit.known_tokens.report import ReuseTally
from icedit.known_tokens.store import Keeping, KnownStore, KnownTokens
from icedit.known_tokens.tokens import TokenSplit, known_tokens, pixels
from icedit.known_tokens.unchanged import UnchangedTokens

FULL, SHORT, LEFT_OUT = Extent.FULL, Extent.SHORT, Extent.LEFT_OUT


def mask(*rows: str) -> torch.Tensor:
    """`1 1 h w` of digits, tenths."""
    return torch.tensor([[int(digit) / 10 for digit in row] for row in rows])[None, None]


class TestTokens:
    def test_partly_open_is_open(self):
        known = known_tokens(mask("0000", "0001", "0000", "0000"), 2)
        assert known.tolist() == [[True, False], [True, True]]

    def test_open_in_one_picture_of_the_batch_is_open_in_all(self):
        known = known_tokens(torch.cat([mask("0099", "0099"), mask("0000", "9000")]), 2)
        assert known.tolist() == [[False, False]]

    def test_a_side_that_does_not_divide_goes_on_at_the_other_end(self):
        """As the host pads the latent: the last token holds the first column, too."""
        assert known_tokens(mask("00000", "00000"), 2).tolist() == [[True, True, True]]
        assert known_tokens(mask("90000", "90000"), 2).tolist() == [[False, True, False]]

    def test_tokens_behind_the_pictures_are_known(self):
        split = TokenSplit.of(torch.tensor([[True, False], [False, True]]), extra=2)
        assert (split.known.tolist(), split.open.tolist(), split.total) == ([0, 3, 4, 5], [1, 2], 6)
        with pytest.raises(ValueError, match="either known or open"):
            TokenSplit(torch.tensor([0]), torch.tensor([0]))

    def test_pixels(self):
        tokens = torch.tensor([[True, False]])
        assert pixels(tokens, 2, (1, 3)).tolist() == [[True, True, False]]


SIGMAS = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]


def extents(settings: ReuseSettings, asked: list[float], error: float = float("inf")) -> list[Extent]:
    """What a control says when everything that it wants in full is kept."""
    control, found = Control(settings, SIGMAS), []
    for sigma in asked:
        found.append(control.extent(sigma, error))
        if found[-1] is FULL:
            control.refreshed(sigma)
    return found


class TestControl:
    def test_the_first_steps_and_then_every_so_many(self):
        found = extents(ReuseSettings(refresh_every=3, first_steps=2), SIGMAS[:-1])
        assert found == [FULL, FULL, SHORT, SHORT, FULL, SHORT, SHORT, FULL, SHORT, SHORT]

    def test_steps_count_and_not_evaluations(self):
        """Heun asks twice at each noise level; in between lies a midpoint."""
        twice = [sigma for sigma in SIGMAS[:-1] for _ in range(2)]
        found = extents(ReuseSettings(refresh_every=3, first_steps=2), twice)
        assert found == [FULL, SHORT, FULL, SHORT] + [SHORT] * 4 + [FULL] + [SHORT] * 5 + [FULL] + [SHORT] * 5
        middles = extents(ReuseSettings(refresh_every=3, first_steps=2), [1.0, 0.95, 0.9, 0.85, 0.8])
        assert middles == [FULL, FULL, FULL, FULL, SHORT]

    def test_refreshed_every_step(self):
        assert extents(ReuseSettings(refresh_every=1, first_steps=1), SIGMAS[:-1]) == [FULL] * 10

    def test_a_sampler_that_goes_back_starts_anew(self):
        assert extents(ReuseSettings(first_steps=1), [0.5, 0.4, 0.5, 0.4]) == [FULL, SHORT, FULL, SHORT]

    def test_what_was_not_kept_is_asked_for_again(self):
        """A step cache inside left the call out."""
        control = Control(ReuseSettings(refresh_every=3, first_steps=1), SIGMAS)
        assert [control.extent(sigma) for sigma in SIGMAS[:3]] == [FULL] * 3

    def test_small_errors_leave_out_so_many_in_a_row(self):
        settings = ReuseSettings(refresh_every=100, first_steps=1, skip_steps=0.1)
        found = extents(settings, SIGMAS[:-1], error=0.0)
        assert found == [FULL] + [LEFT_OUT] * MOST_LEFT_OUT + [SHORT] + [LEFT_OUT] * MOST_LEFT_OUT

    def test_errors_add_up_and_weigh_more_towards_the_end(self):
        settings = ReuseSettings(refresh_every=100, first_steps=1, skip_steps=0.1)
        # A step's share of what is left of the noise is 1/9, 1/8, 1/7 and so on, and 1 in the last step.
        expected = [FULL, LEFT_OUT, LEFT_OUT, SHORT, LEFT_OUT, SHORT, LEFT_OUT, SHORT, SHORT, SHORT]
        assert extents(settings, SIGMAS[:-1], error=0.35) == expected

    def test_nothing_is_left_out_of_the_first_steps(self):
        settings = ReuseSettings(first_steps=3, skip_steps=1.0)
        assert extents(settings, SIGMAS[:4], error=0.0) == [FULL] * 3 + [LEFT_OUT]

    def test_unchanged_tokens_are_computed_at_last(self):
        settings = ReuseSettings(refresh_every=100, first_steps=1, unchanged=Unchanged.FOUND, skip_steps=1.0)
        assert extents(settings, SIGMAS[:-1], error=0.0)[-1] is FULL

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"refresh_every": 0}, "refresh_every is 0, expected 1 or more"),
            ({"first_steps": 0}, "first_steps is 0, expected 1 or more"),
            ({"skip_steps": float("nan")}, "skip_steps is nan, expected a share"),
            ({"skip_steps": -1.0}, "skip_steps is -1.0, expected a share"),
        ],
    )
    def test_bad_settings(self, changes, message):
        with pytest.raises(ValueError, match=message):
            ReuseSettings(**changes)


def kept(rows: int, value: float, tokens: int = 2) -> KnownTokens:
    held = KnownTokens()
    held.put(("single", 0), torch.full((rows, 1, tokens, 3), value), torch.full((rows, 1, tokens, 3), -value))
    held.put_output(torch.full((rows, tokens, 3), value))
    return held


class TestStore:
    def test_conditionings_kept_together_and_apart(self):
        store = KnownStore()
        store.keep(["a", "b"], KnownTokens())
        store.keep(["a"], kept(1, 1.0))
        store.keep(["b"], kept(1, 2.0))
        store.drop(["a", "b"])
        both = store.of(["b", "a"], 2)
        keys, values = both.at(("single", 0), torch.device("cpu"))
        assert keys[:, 0, 0, 0].tolist() == [2.0, 1.0]
        assert values[:, 0, 0, 0].tolist() == [-2.0, -1.0]
        assert both.output_at(torch.device("cpu"))[:, 0, 0].tolist() == [2.0, 1.0]
        assert store.of(["a", "c"], 2) is None
        assert store.of(["a"], 3) is None

    def test_a_part_of_what_was_kept_together(self):
        store = KnownStore()
        store.keep(["a", "b"], joined := kept(4, 1.0))
        joined.output.data[2:] = 5
        assert store.of(["b"], 2).output.data.shape == (2, 2, 3)
        assert float(store.of(["b"], 2).output.data.mean()) == 5

    def test_never_two_of_one_conditioning(self):
        store = KnownStore()
        store.keep(["a", "b"], kept(2, 1.0))
        again = store.to_fill(["a"])
        assert not again.keys
        assert store.of(["b"], 2) is None
        store.keep(["a"], kept(1, 1.0))
        assert store.to_fill(["a"]) is store.of(["a"], 2)
        assert store.nbytes == 3 * 2 * 3 * 4
        store.clear()
        assert store.nbytes == 0

    def test_8_bits(self):
        """A scale for each token and head; apart and joined. The output stays as it is."""
        draw = torch.Generator().manual_seed(0)
        keys = torch.randn(2, 3, 5, 8, generator=draw) * torch.tensor([1e-3, 1.0, 1e4])[:, None, None]
        small = KnownTokens(Keeping(in_8_bits=True))
        small.put(("single", 0), keys, -keys)
        small.put_output(keys[:, 0])
        assert small.keys["single", 0].data.nbytes * 4 == keys.nbytes
        store = KnownStore()
        store.keep(["a"], small.rows(0, 2))
        store.keep(["b"], small.rows(1, 2))
        for kept in (small, store.of(["a", "b"], 5)):
            found, values = kept.at(("single", 0), keys.device)
            assert bool(((found - keys).abs() <= keys.abs().amax(dim=-1, keepdim=True) / 127 * 0.51).all())
            assert torch.equal(values, -found)
            assert torch.equal(kept.output_at(keys.device), keys[:, 0])


class TestForecast:
    opened = torch.ones(2, 2, dtype=torch.bool)

    def picture(self, sigma: float, bend: float) -> torch.Tensor:
        base = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
        return base * (1 + sigma) + bend * sigma**2

    def after(self, sigmas, bend, conds="a"):
        forecast = Forecast()
        for sigma in sigmas:
            forecast.computed(sigma, [self.picture(sigma, bend)], conds, self.opened)
        return forecast

    def test_it_goes_on_straight(self):
        forecast = self.after([1.0, 0.9, 0.7], bend=0.0)
        assert torch.allclose(forecast.outputs(0.4)[0], self.picture(0.4, 0.0), atol=1e-6)
        assert forecast.expected_error(0.4, "a") < 1e-5

    def test_it_knows_how_far_off_it_is(self):
        forecast = self.after([1.0, 0.9, 0.8], bend=1.0)
        off = (forecast.outputs(0.7)[0] - self.picture(0.7, 1.0)).abs().mean() / self.picture(0.8, 1.0).std()
        assert forecast.expected_error(0.7, "a") == pytest.approx(float(off), rel=0.2)

    @pytest.mark.parametrize(("sigma", "conds"), [(0.7, "b"), (0.8, "a"), (0.9, "a")])
    def test_it_says_nothing_about_other_conditionings_or_noise_levels_of_before(self, sigma, conds):
        assert self.after([1.0, 0.9, 0.8], 1.0).expected_error(sigma, conds) == float("inf")

    def test_it_needs_three_answers(self):
        assert self.after([1.0, 0.9], 1.0).expected_error(0.8, "a") == float("inf")
        forecast = self.after([1.0, 0.9, 0.8], 1.0)
        forecast.computed(0.9, [self.picture(0.9, 1.0)], "a", self.opened)
        assert forecast.expected_error(0.7, "a") == float("inf")

    def test_a_second_answer_at_a_noise_level_replaces_the_first(self):
        forecast = self.after([1.0, 0.9, 0.8], 0.0)
        forecast.computed(0.8, [self.picture(0.8, 0.0) + 1], "a", self.opened)
        expected = self.picture(0.8, 0.0) + 1 + (self.picture(0.8, 0.0) + 1 - self.picture(0.9, 0.0))
        assert torch.allclose(forecast.outputs(0.7)[0], expected, atol=1e-5)

    def test_only_what_is_open_counts(self):
        opened = torch.tensor([[True, True], [True, False]])
        forecast = Forecast()
        for index, sigma in enumerate((1.0, 0.9, 0.8)):
            output = self.picture(sigma, 0.0)
            output[..., 1, 1] = 100.0 * index**2
            forecast.computed(sigma, [output], "a", opened)
        assert forecast.expected_error(0.7, "a") < 1e-5


class TestUnchanged:
    masked = torch.zeros(8, 16, dtype=torch.bool)

    def setup_method(self):
        self.masked = self.masked.clone()
        self.masked[:, :8] = True
        self.source = torch.randn(1, 4, 16, 32, generator=torch.Generator().manual_seed(0))

    def known_after(self, change):
        unchanged = UnchangedTokens(self.source, self.masked, 2)
        assert torch.equal(unchanged.known(), self.masked)
        seen = self.source + 0.05 * torch.randn(self.source.shape, generator=torch.Generator().manual_seed(1))
        change(seen)
        unchanged.see(seen)
        return unchanged.known()

    def test_what_is_touched_stays_open_with_its_neighbours(self):
        def local(seen):
            seen[..., 6:8, 24:26] += 2

        known = self.known_after(local)
        assert known.sum() == known.numel() - 9
        assert not known[2:5, 11:14].any()

    def test_global_edits_go_on_with_the_mask(self):
        assert torch.equal(self.known_after(lambda seen: seen[..., 16:].add_(2)), self.masked)

    def test_an_edit_that_shows_nothing_yet_does_too(self):
        assert torch.equal(self.known_after(lambda _: None), self.masked)


def test_the_tally_says_what_a_run_took():
    tally = ReuseTally(nbytes=717_000_000)
    assert [tally.add(shares, None) for shares in ([1.0], [0.5, 0.5], [0.0])] == [1.0, 0.5, 0.0]
    assert tally.add([1.0], "attn1_patch") == 1.0
    text = tally.text()
    assert "2 evaluations of the model in full, 1 short ones with 50% of the tokens, 1 left out" in text
    assert "the work of 2.5 instead of 4" in text and "717 MB" in text
    assert "1 evaluations ran as without this node" in text and "attn1_patch" in text
