"""Nodes that make a region, for Create Diptych, of what was found in the picture."""

from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..diptych.found_region import RegionBorder, grown, selected, shown_over
from ..diptych.image import checked_image, size_of
from ..host import devices, node_notes
from .types import CATEGORY

STOP, ANYWHERE = "stop", "whole picture"
REGION = "Where the edit may happen: 1 inside, fading to 0 around it. For Create Diptych's region."
PREVIEW = "Your picture, dimmed where the edit may not happen."


class RegionFromMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RegionFromMask",
            display_name="Region from Mask (ICEdit)",
            category=CATEGORY,
            description="Makes the region of an edit of a mask that was found by words, such as SAM3 Detect's: says "
            "before anything is sampled when nothing was found, grows and softens it, and shows it over the picture.",
            search_aliases=["ICEdit", "say where", "SAM3", "segment", "region by words", "grow mask", "feather"],
            inputs=[
                io.Mask.Input(
                    "mask",
                    lazy=True,
                    tooltip="What was found, such as SAM3 Detect's masks. Not computed when the words are empty.",
                ),
                io.Image.Input("image", tooltip="The picture that the mask was made of."),
                *border_inputs(0.02, 0.01),
                io.Combo.Input(
                    "when_not_found",
                    options=[STOP, ANYWHERE],
                    default=STOP,
                    tooltip="When the mask is empty: stop with a sentence that says so, or edit the whole picture.",
                ),
                io.String.Input(
                    "words",
                    optional=True,
                    force_input=True,
                    tooltip="The words that were looked for, to say what was not found. Connected and empty: the whole "
                    "picture.",
                ),
            ],
            outputs=region_outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def check_lazy_status(cls, words: str | None = None, mask: Any = None, **_: Any) -> list[str]:
        return [] if mask is not None or _is_blank(words) else ["mask"]

    @classmethod
    def execute(cls, image, grow, feather, when_not_found=STOP, mask=None, words: str | None = None) -> io.NodeOutput:
        pictures = checked_image(image, "image")
        border = RegionBorder(grow, feather)
        if mask is None:
            return with_region(cls, pictures, torch.ones(pictures.shape[:3]))
        found = selected(mask, size_of(pictures), len(pictures))
        missing = [number for number, one in enumerate(found, 1) if not bool(one.any())]
        if missing and when_not_found == STOP:
            raise ValueError(_not_found(words, missing if len(found) > 1 else []))
        if missing:
            node_notes.show(cls, [f"{_searched(words)} was not found: the whole picture may change."])
            found = found.clone()
            found[[number - 1 for number in missing]] = True
        return with_region(cls, pictures, grown(found, border))


def border_inputs(grow: float, feather: float) -> list[io.Input]:
    return [
        io.Float.Input(
            "grow",
            default=grow,
            min=0.0,
            max=1.0,
            step=0.005,
            tooltip="How far the region reaches beyond what was found, as a share of the picture's longer side.",
        ),
        io.Float.Input(
            "feather",
            default=feather,
            min=0.0,
            max=1.0,
            step=0.005,
            tooltip="Over how much more it fades out, as a share of the picture's longer side.",
        ),
    ]


def region_outputs() -> list[io.Output]:
    return [
        io.Mask.Output(display_name="region", tooltip=REGION),
        io.Image.Output(display_name="preview", tooltip=PREVIEW),
    ]


def with_region(cls: type[io.ComfyNode], pictures: Tensor, regions: Tensor) -> io.NodeOutput:
    """The regions, and the node's preview of them over their pictures."""
    preview = shown_over(pictures, regions)
    outputs = (devices.as_output(tensor) for tensor in (regions, preview))
    return io.NodeOutput(*outputs, ui=ui.PreviewImage(preview, cls=cls))


def _is_blank(words: str | None) -> bool:
    return words is not None and not words.strip()


def _searched(words: str | None) -> str:
    return f"“{words.strip()}”" if words else "What the mask should show"


def _not_found(words: str | None, pictures: list[int]) -> str:
    where = f"picture {', '.join(map(str, pictures))}" if pictures else "the picture"
    return (
        f"{_searched(words)} was not found in {where}, so there is no region to edit. Use other or plainer words, "
        "lower the threshold of SAM3 Detect, or leave the words empty to edit the whole picture."
    )
