"""The node that makes a diptych from a picture."""

from comfy_api.latest import io

from ..diptych.alpha import alpha_of
from ..diptych.fit import DEFAULT_MARGIN, FITS, WIDTH
from ..diptych.geometry import MAX_PANEL, MIN_PANEL, SNAP, TRAINED_WIDTH
from ..diptych.image import checked_image, size_of
from ..diptych.panels import make_diptych
from ..diptych.reading import Picture, read_picture
from ..diptych.region import is_no_mask
from ..host import devices, files, links, node_notes
from .types import CATEGORY, Layout

NO_FILE = "None"
UNLINKED = object()
"""The host passes None for an input that is linked, and leaves out one that is not."""
PICTURE_AS_NAME = (
    "A picture is connected to image, which takes the name of a file. Connect it to image_input instead, and leave "
    "image at None."
)


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
                    tooltip="Where the edit may happen, drawn on your picture: wherever something is painted, at any "
                    "opacity. Not connected, or Load Image's empty mask: where you painted in the mask editor "
                    "(right-click the picture), or else anywhere.",
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
                io.Combo.Input(
                    "fit",
                    options=list(FITS),
                    default=WIDTH,
                    optional=True,
                    tooltip="width: the whole picture, panel_width wide, as trained. area: the whole picture, with "
                    "as many pixels as a square of that width; for pictures wider than 4:3. crop_to_region: the region "
                    "and its surroundings only, for small things in large pictures. tiles: overlapping squares, for "
                    "panoramas over 2:1; connect layout to Diptych Conditioning too.",
                ),
                io.Float.Input(
                    "margin",
                    default=DEFAULT_MARGIN,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    optional=True,
                    tooltip="For crop_to_region: how much of its surroundings the model sees, on each side, as a share "
                    "of the region's longer side.",
                ),
            ],
            outputs=[
                io.Image.Output("diptych", tooltip="Both panels side by side."),
                io.Mask.Output("maskDiptych", tooltip="0 on the left panel, 1 where the right panel is painted."),
                io.Image.Output("original_image", tooltip="Your picture at its own size, for comparing."),
                Layout.Output("layout", tooltip="Where the panels lie in your picture, for Crop Right Half."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        image=NO_FILE,
        image_input=None,
        region=None,
        panel_width=TRAINED_WIDTH,
        right_panel="copy",
        fit=WIDTH,
        margin=DEFAULT_MARGIN,
    ) -> io.NodeOutput:
        if image_input is not None:
            picture = Picture(checked_image(image_input), alpha=alpha_of(image_input))
        elif hasattr(image, "shape"):
            # It came through a node that accepts and returns any type, so no check of types found it.
            raise ValueError(PICTURE_AS_NAME)
        elif image not in (NO_FILE, None):
            picture = read_picture(files.input_picture(image), devices.most_pixels())
        else:
            raise ValueError("There is no picture to edit. Choose or upload one, or connect image_input.")
        source = picture.image
        if picture.painted is not None and (region is None or is_no_mask(region, size_of(source))):
            region = picture.painted
        diptych = make_diptych(source, panel_width, region, right_panel, fit, margin, picture.alpha)
        node_notes.show(cls, (*picture.notes, *diptych.notes))
        pictures = (devices.as_output(tensor) for tensor in (diptych.image, diptych.mask, source))
        return io.NodeOutput(*pictures, diptych.layout)

    @classmethod
    def fingerprint_inputs(cls, image=NO_FILE, image_input=UNLINKED, **_) -> str:
        # Changes of a linked picture reach the node by themselves.
        unused = image in (NO_FILE, None) or image_input is not UNLINKED
        return NO_FILE if unused else files.fingerprint(files.input_picture(image))

    @classmethod
    def validate_inputs(cls, image=NO_FILE, image_input=UNLINKED, input_types=None) -> bool | str:
        # Naming `input_types` switches the host's own check of links off, so that a wrong one gets our sentence.
        received = input_types or {}
        if received.get("image") == io.Image.io_type:
            return PICTURE_AS_NAME
        mismatch = links.mismatch(cls, received)
        if mismatch:
            return mismatch
        # Naming `image` switches the host's own check off, which refuses files that were uploaded after it listed them.
        if image in (NO_FILE, None) or image_input is not UNLINKED:
            return True
        try:
            files.input_picture(image)
        except ValueError as error:
            return str(error)
        return True
