"""Nodes that make a diptych from a picture and take the edited panel out of it."""

from comfy_api.latest import io

from ..diptych.geometry import MAX_PANEL, MIN_PANEL, SNAP, TRAINED_WIDTH
from ..diptych.image import checked_image, read_picture
from ..diptych.panels import crop_right_panel, make_diptych
from ..host import files
from .types import CATEGORY, Layout

NO_FILE = "None"


class DiptychCreate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiptychCreate",
            display_name="Create Diptych (ICEdit)",
            category=CATEGORY,
            description="Puts your picture into the left and right panel of a diptych. ICEdit keeps the left one and "
            "paints the edit into the right one.",
            search_aliases=["ICEdit", "in-context edit", "image edit", "side by side"],
            inputs=[
                io.Combo.Input(
                    "image",
                    options=[NO_FILE, *files.input_pictures()],
                    upload=io.UploadType.image,
                    tooltip="The picture to edit. Leave it at None when image_input is connected.",
                ),
                io.Image.Input(
                    "image_input",
                    optional=True,
                    tooltip="A picture, or a batch, from another node. When connected it is used instead of the file.",
                ),
                io.Mask.Input(
                    "region",
                    optional=True,
                    tooltip="Where the edit may happen, drawn on your picture. Not connected: anywhere.",
                ),
                io.Int.Input(
                    "panel_width",
                    default=TRAINED_WIDTH,
                    min=MIN_PANEL,
                    max=MAX_PANEL,
                    step=SNAP,
                    optional=True,
                    tooltip="Width of one panel in pixels, snapped to 16. ICEdit was trained with 512: other widths "
                    "work less well. The height follows from your picture.",
                ),
                io.Combo.Input(
                    "right_panel",
                    options=["copy", "grey"],
                    default="copy",
                    optional=True,
                    tooltip="What the right panel holds before sampling. It matters only with a denoise below 1: copy "
                    "then stays nearer to your picture.",
                ),
            ],
            outputs=[
                io.Image.Output("diptych", tooltip="Both panels side by side."),
                io.Mask.Output("maskDiptych", tooltip="0 on the left panel, 1 where the right panel is painted."),
                io.Image.Output("original_image", tooltip="Your picture at its own size, for comparing."),
                Layout.Output("layout", tooltip="Panel and picture sizes, for Crop Right Half."),
            ],
        )

    @classmethod
    def execute(cls, image, image_input=None, region=None, panel_width=TRAINED_WIDTH, right_panel="copy") -> io.NodeOutput:
        if image_input is not None:
            source = checked_image(image_input)
        elif image != NO_FILE:
            source = read_picture(files.input_picture(image))
        else:
            raise ValueError("There is no picture to edit. Choose or upload one, or connect image_input.")
        diptych = make_diptych(source, panel_width, region, right_panel)
        return io.NodeOutput(diptych.image, diptych.mask, source, diptych.layout)

    @classmethod
    def fingerprint_inputs(cls, image=NO_FILE, **_) -> str:
        # image_input arrives here as None even when it is connected; its changes reach the node by themselves.
        return NO_FILE if image in (NO_FILE, None) else files.fingerprint(files.input_picture(image))

    @classmethod
    def validate_inputs(cls, image) -> bool | str:
        # Naming `image` also lets files through that were uploaded after the list of names was made.
        if image in (NO_FILE, None):
            return True
        try:
            files.input_picture(image)
        except ValueError as error:
            return str(error)
        return True


class CropRightHalf(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CropRightHalf",
            display_name="Crop Right Half (ICEdit)",
            category=CATEGORY,
            description="Takes the edited picture, the right panel, out of a decoded diptych.",
            search_aliases=["ICEdit", "crop diptych"],
            inputs=[
                io.Image.Input("image", tooltip="The decoded diptych, from VAE Decode."),
                Layout.Input(
                    "layout",
                    optional=True,
                    tooltip="From Create Diptych; checks that the diptych is the one it made.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The edited picture at panel size.")],
        )

    @classmethod
    def execute(cls, image, layout=None) -> io.NodeOutput:
        return io.NodeOutput(crop_right_panel(image, layout))
