"""The node that reads pairs to train on."""

from comfy_api.latest import io

from ..diptych.geometry import MAX_PANEL, MIN_PANEL, SNAP, TRAINED_WIDTH
from ..host import edit_pairs, node_notes
from ..training.pairs.held_out import AUTOMATIC
from ..training.pairs.load import SKIP, STOP, PairSettings
from .types import CATEGORY, Pairs

MOST_HELD_OUT = 10_000


class LoadEditPairs(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadEditPairs",
            display_name="Load Edit Pairs (ICEdit)",
            category=CATEGORY,
            description="Reads pictures before and after an edit, with the instruction for each, to train on. "
            "Everything is checked first, and all that is wrong is said at once.",
            search_aliases=["ICEdit", "dataset", "training pairs", "before after", "load dataset"],
            inputs=[
                io.String.Input(
                    "sources",
                    default="",
                    tooltip="A folder with the pictures before the edit, in ComfyUI's input folder. Or a list of "
                    "pairs (.jsonl, .json, .csv, .parquet), or a folder of .parquet files; edited stays empty then.",
                ),
                io.String.Input(
                    "edited",
                    default="",
                    optional=True,
                    tooltip="A folder with the edited pictures under the same names, each with a .txt file of that "
                    "name beside it with the instruction. Several lines are several ways to ask for the same edit.",
                ),
                io.String.Input(
                    "instruction",
                    default="",
                    optional=True,
                    tooltip="For the pairs without an instruction of their own. Enough when all of them show one edit.",
                ),
                io.Int.Input(
                    "panel_size",
                    default=TRAINED_WIDTH,
                    min=MIN_PANEL,
                    max=MAX_PANEL,
                    step=SNAP,
                    optional=True,
                    tooltip="The side of a square panel in pixels. Pictures of other proportions keep them, on a panel "
                    "of about the same area. ICEdit was trained with 512.",
                ),
                io.Int.Input(
                    "held_out",
                    default=AUTOMATIC,
                    min=AUTOMATIC,
                    max=MOST_HELD_OUT,
                    optional=True,
                    tooltip="How many pairs are not trained on, but used for samples. -1: a tenth of them, at most 8.",
                ),
                io.Combo.Input(
                    "on_problems",
                    options=[STOP, SKIP],
                    default=STOP,
                    optional=True,
                    tooltip="When pairs cannot be used. stop: say what is wrong with each. skip: go on without them "
                    "and say so in the report.",
                ),
                io.Int.Input(
                    "crops",
                    default=0,
                    min=0,
                    max=64,
                    optional=True,
                    tooltip="Random crops of each pair that are learned beside it, so that few pairs are not learned "
                    "by heart. For less than some hundred pairs 5; each is encoded and kept on the disk.",
                ),
            ],
            outputs=[
                Pairs.Output(display_name="pairs", tooltip="For Train MoE-LoRA."),
                io.String.Output(
                    display_name="report", tooltip="How many pairs, on which panels, and what was left out and why."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, sources, edited="", instruction="", panel_size=TRAINED_WIDTH, held_out=AUTOMATIC, on_problems=STOP, crops=0
    ) -> io.NodeOutput:
        loaded = edit_pairs.load(sources, edited, instruction, PairSettings(panel_size, held_out, on_problems, crops))
        node_notes.show(cls, [loaded.report])
        return io.NodeOutput(loaded.pairs, loaded.report)

    @classmethod
    def fingerprint_inputs(cls, sources, edited="", instruction="", **_) -> str:
        return edit_pairs.fingerprint(sources, edited, instruction)
