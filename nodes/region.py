"""Nodes that make a region, for Create Diptych, of what was found in the picture."""

from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..diptych.found_region import RegionBorder, changed_areas, grown, selected, shown_over
from ..diptych.image import checked_image, size_of
from ..host import devices, node_notes, right_panel
from .types import CATEGORY, Layout

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


class RegionFromChange(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RegionFromChange",
            display_name="Region from Change (ICEdit)",
            category=CATEGORY,
            description="Shows where the model starts to change your picture, after a few steps of sampling, as a "
            "region for the whole run: outside it every pixel will stay. Correct it by hand where it is wrong.",
            search_aliases=["ICEdit", "find region", "probe", "changed area", "mask from edit", "RegionE"],
            inputs=[
                io.Latent.Input(
                    "samples",
                    tooltip="The diptych after a few steps: from KSampler (Advanced) with end_at_step at 4 to 8 and "
                    "return_with_leftover_noise at disable.",
                ),
                io.Vae.Input("vae", tooltip="The FLUX VAE, ae.safetensors, that Diptych Conditioning has too."),
                Layout.Input("layout", tooltip="From the Create Diptych that made the diptych."),
                io.Image.Input("original", tooltip="original_image from Create Diptych."),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="The difference of colours from which on something counts as changed. 0 follows the "
                    "picture's own noise.",
                ),
                *border_inputs(0.02, 0.01),
            ],
            outputs=region_outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, samples, vae, layout, original, threshold, grow, feather) -> io.NodeOutput:
        border, pictures = RegionBorder(grow, feather), checked_image(original, "original")
        diptych = right_panel.diptych_latent(samples, vae, layout, original)
        right = checked_image(right_panel.decode_right(diptych), "the decoded picture")
        left = right_panel.decode_left(diptych, right)
        found = changed_areas(right, left, layout, pictures, threshold, devices.of_outputs())
        unchanged = [number for number, one in enumerate(found, 1) if not bool(one.any())]
        if unchanged:
            which = f" in picture {', '.join(map(str, unchanged))}" if len(found) > 1 else ""
            raise ValueError(
                f"The model has not changed anything yet{which}, so there is no region to find. Raise end_at_step of "
                "the sampler before this node, lower threshold, or try another seed."
            )
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
