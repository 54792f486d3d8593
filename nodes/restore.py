"""Nodes that put an edit back onto its source picture."""

from dataclasses import replace

import torch
from comfy_api.latest import io
from torch import Tensor

from ..diptych.alpha import AS_SOURCE, OPAQUE, with_alpha
from ..diptych.comparison import changed_on_panels
from ..diptych.geometry import DiptychLayout
from ..diptych.image import checked_image
from ..diptych.panels import crop_right_panel
from ..diptych.restore import BLEND, PANEL, RESIZE, Restored, restore_edit, restore_panels, restore_right_panels
from ..host import devices, node_notes, outputs, right_panel
from .types import CATEGORY, Layout

CHANGED_OUTPUT = 1
CHANGED = "Where the edit shows: 1 on the changed area, falling to 0 around it. 1 everywhere when all of it was used."


class CropRightHalf(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CropRightHalf",
            display_name="Crop Right Half (ICEdit)",
            category=CATEGORY,
            description="Takes the edited picture, the right panel, out of a decoded diptych, and can put the edit "
            "back into your picture at its full size.",
            search_aliases=["ICEdit", "crop diptych", "restore"],
            inputs=[
                io.Image.Input("image", tooltip="The decoded diptych, from VAE Decode."),
                _layout_input(),
                *_restore_inputs("Needed for resize and blend."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The edited picture."),
                io.Mask.Output(display_name="changed", tooltip=CHANGED),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, image, layout=None, original=None, restore=PANEL, alpha=AS_SOURCE) -> io.NodeOutput:
        if restore == PANEL:
            panel = devices.as_output(crop_right_panel(image, layout))
            if not outputs.is_linked(CHANGED_OUTPUT):
                return io.NodeOutput(panel, outputs.skipped("changed"))
            return io.NodeOutput(panel, devices.as_output(changed_on_panels(image, layout)))
        layout, original = _connected(restore, layout, original)
        return _shown(cls, _with_alpha(restore_panels(image, layout, original, restore), layout, alpha))

    @classmethod
    def fingerprint_inputs(cls, restore=PANEL, **_) -> bool:
        # These modes compute `changed` in any case. A linked `restore` is None here.
        return restore in (RESIZE, BLEND) or outputs.is_linked(CHANGED_OUTPUT)


class DecodeRightHalf(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DecodeRightHalf",
            display_name="Decode Right Half (ICEdit)",
            category=CATEGORY,
            description="Decodes the edited picture, the right panel of a sampled diptych, without the colours of the "
            "left panel at its edge, and can put the edit back into your picture at its full size. In place of VAE "
            "Decode and Crop Right Half.",
            search_aliases=["ICEdit", "vae decode", "crop diptych", "restore", "strip", "seam"],
            inputs=[
                io.Latent.Input("samples", tooltip="The sampled diptych, from the sampler."),
                io.Vae.Input("vae", tooltip="The FLUX VAE, ae.safetensors, that Diptych Conditioning has too."),
                _layout_input(),
                *_restore_inputs("Needed for resize and blend; with layout, it also makes the left edge more exact."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The edited picture."),
                io.Mask.Output(display_name="changed", tooltip=CHANGED),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, samples, vae, layout=None, original=None, restore=PANEL, alpha=AS_SOURCE) -> io.NodeOutput:
        if restore != PANEL:
            _connected(restore, layout, original)  # before the slow part
        diptych = right_panel.diptych_latent(samples, vae, layout, original)
        right = checked_image(right_panel.decode_right(diptych), "the decoded picture")
        asked = restore == BLEND or (restore == PANEL and outputs.is_linked(CHANGED_OUTPUT))
        left = right_panel.decode_left(diptych, right) if asked else None
        if restore != PANEL:
            layout, original = _connected(restore, layout, original)
            restored = restore_right_panels(right, left, layout, original, restore, devices.of_outputs())
            return _shown(cls, _with_alpha(restored, layout, alpha))
        panel = devices.as_output(right)
        if left is None:
            return io.NodeOutput(panel, outputs.skipped("changed"))
        both = torch.cat([devices.as_output(left), panel], 2)
        return io.NodeOutput(panel, devices.as_output(changed_on_panels(both, layout)))

    @classmethod
    def fingerprint_inputs(cls, restore=PANEL, **_) -> bool:
        # As in CropRightHalf.
        return restore in (RESIZE, BLEND) or outputs.is_linked(CHANGED_OUTPUT)


class EditRestore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EditRestore",
            display_name="Restore Edit (ICEdit)",
            category=CATEGORY,
            description="Puts the edit that any model made of your picture back into it, at its full size. Everything "
            "that did not change keeps its very pixels.",
            search_aliases=["ICEdit", "restore", "put back", "changed area", "full resolution edit"],
            inputs=[
                io.Image.Input("edited", tooltip="What the model made of your picture, at any size."),
                io.Image.Input("original", tooltip="Your picture: one for all edits, or one for each."),
                io.Combo.Input(
                    "restore",
                    options=[BLEND, RESIZE],
                    default=BLEND,
                    tooltip="blend: your picture, with only the changed area put in. resize: the whole edit, scaled to "
                    "your picture's size.",
                ),
                io.Mask.Input(
                    "region",
                    optional=True,
                    tooltip="Where the edit may show, drawn on your picture; outside it every pixel stays. Not "
                    "connected, or Load Image's empty mask: anywhere.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="Your picture with the edit in it."),
                io.Mask.Output(display_name="changed", tooltip=CHANGED),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, edited, original, restore=BLEND, region=None) -> io.NodeOutput:
        return _shown(cls, restore_edit(edited, original, restore, region))


def _layout_input() -> io.Input:
    return Layout.Input(
        "layout",
        optional=True,
        tooltip="From Create Diptych; checks that the diptych is the one it made. Needed to restore.",
    )


def _restore_inputs(original: str) -> list[io.Input]:
    """The optional inputs of a node that restores; `original`: what that one is needed for."""
    return [
        io.Image.Input(
            "original",
            optional=True,
            tooltip=f"original_image from Create Diptych. {original}",
        ),
        io.Combo.Input(
            "restore",
            options=[PANEL, RESIZE, BLEND],
            default=PANEL,
            optional=True,
            tooltip="panel: as the model made it. resize: scaled to your picture's size. blend: your picture, "
            "with only the changed area put in; everything else keeps its very pixels. A region limits both.",
        ),
        io.Combo.Input(
            "alpha",
            options=[AS_SOURCE, OPAQUE],
            default=AS_SOURCE,
            optional=True,
            tooltip="For resize and blend. as the source: as transparent as your picture was, which gives an "
            "image with a fourth channel; opaque pictures stay as they are. opaque: on white.",
        ),
    ]


def _connected(restore: str, layout: DiptychLayout | None, original: Tensor | None) -> tuple[DiptychLayout, Tensor]:
    """What restoring needs.

    Raises:
        ValueError: one of them is not connected.
    """
    if layout is None or original is None:
        missing = " and ".join(n for n, v in (("layout", layout), ("original", original)) if v is None)
        raise ValueError(
            f"restore is {restore}, but {missing} is not connected. Connect layout and original_image of Create "
            "Diptych, or set restore to panel."
        )
    return layout, original


def _with_alpha(restored: Restored, layout: DiptychLayout, alpha: str) -> Restored:
    if layout.alpha is None or alpha != AS_SOURCE:
        return restored
    return replace(restored, image=with_alpha(restored.image, layout.alpha))


def _shown(node: type[io.ComfyNode], restored: Restored) -> io.NodeOutput:
    node_notes.show(node, restored.notes)
    return io.NodeOutput(devices.as_output(restored.image), devices.as_output(restored.changed))
