"""Several instructions with several seeds: what is given out, and the grid that it comes back as."""

import pytest
import torch
from icedit.diptych.grid import GROUND, draw_grid, grid_cells

LINES = "make it red\n\n  make it blue \nmake it red"
PAIRS = [("make it red", 5), ("make it red", 6), ("make it blue", 5), ("make it blue", 6)]
COLOURS = [(1.0, 0.0, 0.0), (0.6, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.6)]


def pictures(height=40, width=60):
    return [torch.tensor(colour).expand(height, width, 3) for colour in COLOURS]


def cells(**size):
    return grid_cells(pictures(**size), [line for line, _ in PAIRS], [seed for _, seed in PAIRS])


def places(grid, colour):
    """`y x` of the pixels of a colour: from, to."""
    found = (grid - torch.tensor(colour)).abs().amax(-1).lt(0.02).nonzero()
    return [found[:, axis].min().item() for axis in (0, 1)], [found[:, axis].max().item() for axis in (0, 1)]


class TestDrawing:
    def test_rows_are_instructions_and_columns_are_seeds(self):
        grid = draw_grid(cells(), 60)
        (red, _), (dark_red, _), (blue, _), (dark_blue, _) = (places(grid, colour) for colour in COLOURS)
        assert red[0] == dark_red[0] < blue[0] == dark_blue[0]
        assert red[1] == blue[1] < dark_red[1] == dark_blue[1]
        for colour in COLOURS:
            first, last = places(grid, colour)
            assert [b - a + 1 for a, b in zip(first, last, strict=True)] == [40, 60], "each is whole"

    def test_what_each_was_made_from_is_written_beside_it(self):
        grid = draw_grid(cells(height=200, width=300), 300)
        ground = torch.tensor(GROUND) / 255
        written = (grid - ground).abs().amax(-1) > 0.3
        for colour in COLOURS:
            (top, left), (foot, right) = places(grid, colour)
            assert written[foot + 2 : foot + 26, left:right].any(), "its seed"
        (top, left), _ = places(grid, COLOURS[2])
        assert written[top - 28 : top - 2, left:].any(), "its instruction"

    def test_cells_are_scaled_to_their_width_and_missing_ones_left_blank(self):
        grid = draw_grid(cells(height=200, width=300)[:3], 100)
        (top, left), (foot, right) = places(grid, COLOURS[2])
        assert (right - left + 1, foot - top + 1) == (100, 67)
        assert grid.shape[1] < 3 * 100

    def test_instructions_in_letters_that_cannot_be_drawn_are_numbered(self):
        one = grid_cells(pictures()[:1], ["머리를 초록색으로"], [1])
        named = grid_cells(pictures()[:1], ["instruction 1"], [1])
        assert torch.equal(draw_grid(one, 200), draw_grid(named, 200))

    def test_what_does_not_fit_together_is_refused(self):
        with pytest.raises(ValueError, match="images holds 4 pictures, instruction 1 and seed 4"):
            grid_cells(pictures(), ["make it red"], [1, 2, 3, 4])
        with pytest.raises(ValueError, match="Two pictures are of “make it red” with seed 1"):
            grid_cells(pictures()[:2], ["make it red"] * 2, [1, 1])
        many = grid_cells([torch.zeros(2048, 16, 3)] * 100, ["make it red"] * 100, list(range(100)))
        with pytest.raises(ValueError, match="Lower cell_width"):
            draw_grid(many, 2048)


@pytest.mark.host
class TestNodes:
    def test_every_instruction_comes_with_every_seed(self, host):
        lines, seeds = host.call("EditVariations", instructions=LINES, seed=5, seeds=2)
        assert list(zip(lines, seeds, strict=True)) == PAIRS
        _, seeds = host.call("EditVariations", instructions=LINES, seed=2**64 - 1, seeds=2)
        assert seeds[:2] == [2**64 - 1, 0]
        with pytest.raises(ValueError, match="instructions is empty"):
            host.call("EditVariations", instructions=" \n", seed=5, seeds=2)

    def test_a_batch_of_pictures_gives_a_grid_for_each(self, host):
        import nodes

        node = nodes.NODE_CLASS_MAPPINGS["EditGrid"]
        given = {"instruction": [line for line, _ in PAIRS], "seed": [seed for _, seed in PAIRS], "cell_width": [64]}
        batch = [torch.stack([picture, 1 - picture]) for picture in pictures()]
        output = node.EXECUTE_NORMALIZED(images=batch, **given)
        (grid,) = output.result
        assert torch.equal(grid[0], draw_grid(cells(), 64))
        assert grid.shape[0] == 2 and not torch.equal(grid[0], grid[1])
        assert output.ui["icedit_cells"][3] == {"instruction": "make it blue", "seed": "6"}
        with pytest.raises(ValueError, match=r"batches of \[1, 2\] pictures"):
            node.EXECUTE_NORMALIZED(images=[*batch[:3], batch[3][:1]], **given)
