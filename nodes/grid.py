"""Nodes that try several instructions and seeds in one run."""

import torch
from comfy_api.latest import io, ui

from ..diptych.grid import draw_grid, grid_cells
from ..diptych.image import checked_image
from ..host import devices, node_notes
from .sampling_inputs import MAX_SEED
from .types import CATEGORY

MOST_SEEDS = 64
NO_INSTRUCTION = "instructions is empty. Write one plain command in each line, such as: make her hair dark green"


class EditVariations(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EditVariations",
            display_name="Edit Variations (ICEdit)",
            category=CATEGORY,
            description="Every instruction with every seed: the nodes after it run once for each. Edit Grid shows the "
            "edits side by side.",
            search_aliases=["ICEdit", "grid", "XY plot", "seeds", "explore", "batch of prompts", "variations"],
            inputs=[
                io.String.Input(
                    "instructions",
                    multiline=True,
                    default="",
                    tooltip="One plain command in each line, such as: make her hair dark green",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="The first seed; the others follow it.",
                ),
                io.Int.Input(
                    "seeds", default=3, min=1, max=MOST_SEEDS, tooltip="How many seeds each instruction is tried with."
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="instruction", is_output_list=True, tooltip="For Edit Instruction and for Edit Grid."
                ),
                io.Int.Output(display_name="seed", is_output_list=True, tooltip="For the sampler and for Edit Grid."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, instructions, seed, seeds) -> io.NodeOutput:
        lines = list(dict.fromkeys(line.strip() for line in instructions.splitlines() if line.strip()))
        if not lines:
            raise ValueError(NO_INSTRUCTION)
        tried = [(seed + number) % (MAX_SEED + 1) for number in range(seeds)]
        pairs = [(line, one) for line in lines for one in tried]
        node_notes.show(cls, [f"{len(pairs)} edits: {len(lines)} instructions with {len(tried)} seeds each."])
        return io.NodeOutput([line for line, _ in pairs], [one for _, one in pairs])


class EditGrid(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EditGrid",
            display_name="Edit Grid (ICEdit)",
            category=CATEGORY,
            description="All edits of Edit Variations in one picture: a row for each instruction, a column for each "
            "seed, labelled. A button takes one of them as the only one to run.",
            search_aliases=["ICEdit", "grid", "contact sheet", "XY plot", "compare seeds", "pin seed"],
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="The edits, in the order in which Edit Variations gave them out."),
                io.String.Input(
                    "instruction", force_input=True, tooltip="instruction of the Edit Variations that they come from."
                ),
                io.Int.Input(
                    "seed",
                    min=0,
                    max=MAX_SEED,
                    force_input=True,
                    tooltip="seed of the Edit Variations that they come from.",
                ),
                io.Int.Input(
                    "cell_width",
                    default=384,
                    min=64,
                    max=2048,
                    tooltip="Width of one edit in the grid, in pixels. Smaller edits stay as they are.",
                ),
            ],
            outputs=[io.Image.Output(display_name="grid", tooltip="One picture; of a batch, one for each picture.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, images, instruction, seed, cell_width) -> io.NodeOutput:
        edits = [checked_image(image, "images") for image in images]
        rounds = {len(edit) for edit in edits}
        if len(rounds) > 1:
            raise ValueError(
                f"images holds batches of {sorted(rounds)} pictures, expected as many in each. Connect one result "
                "for each edit of Edit Variations."
            )
        (width,) = cell_width
        grids = [
            draw_grid(grid_cells([edit[row] for edit in edits], instruction, seed), width) for row in range(*rounds)
        ]
        grid = torch.stack(grids)
        # As text: the page's numbers hold integers up to 2^53 only.
        cells = [{"instruction": line, "seed": str(one)} for line, one in zip(instruction, seed, strict=True)]
        shown = {**ui.PreviewImage(grid, cls=cls).as_dict(), "icedit_cells": cells}
        return io.NodeOutput(devices.as_output(grid), ui=shown)
