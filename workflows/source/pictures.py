"""The nodes from the edited latent to saved and compared pictures, and the frames around all columns of nodes."""

from .graph import ROOM, TITLE_BAR, TOP, Graph, Node, Output, Port
from .loaders import Models

TITLE = 40
"""The height of a frame's title."""
COMPARED = (560, 640)
"""The size of the before/after picture."""
BELOW_COMPARED = TOP + COMPARED[1] + ROOM + TITLE_BAR
TITLES = ("1. Models", "2. Your picture and your words", "3. Edit", "4. Result")


def restored(graph: Graph, models: Models, picture: Node, latent: Output, restore: str | Port = "blend") -> Node:
    """The latent is decoded and its right panel put back onto the picture."""
    return graph.add(
        "DecodeRightHalf",
        graph.below(1300),
        (400, 300),
        values={
            "samples": latent,
            "vae": models.vae,
            "layout": picture["layout"],
            "original": picture["original_image"],
            "restore": restore,
        },
    )


def result(
    graph: Graph,
    models: Models,
    picture: Node,
    latent: Output,
    restore: str = "blend",
    before: Output | None = None,
) -> None:
    """The edited picture, saved and compared."""
    edited = restored(graph, models, picture, latent, restore)
    saved(graph, picture["original_image"], edited["image"], graph.below(1300), before)


def saved(
    graph: Graph, original: Output, edited: Output, corner: tuple[int, int], before: Output | None = None
) -> None:
    """Save a picture, compare it with its original in the page, and save both in one file through the API.

    In the comparison the newest page shows what the original's node itself shows. Where that is another picture,
    `before` is the original from a node that shows none.
    """
    left, top = corner
    graph.add("SaveImage", corner, (400, 490), values={"images": edited, "filename_prefix": "icedit"})
    graph.add(
        "ImageCompare",
        (left + 440, TOP),
        COMPARED,
        values={"image_a": before or original, "image_b": edited},
        title="Before / after (slider: needs Nodes 2.0)",
        in_api=False,
    )
    both = graph.add(
        "ImageStitch",
        (left, top + 510),
        (240, 150),
        values={
            "image1": original,
            "image2": edited,
            "direction": "right",
            "match_image_size": True,
            "spacing_width": 8,
            "spacing_color": "white",
        },
        in_page=False,
    )
    graph.add(
        "SaveImage",
        (left + 270, top + 510),
        (300, 300),
        values={"images": both["IMAGE"], "filename_prefix": "icedit_before_after"},
        in_page=False,
    )


def report(graph: Graph, text: Output) -> None:
    """A node's report, below the before/after picture."""
    place, size = (1740, BELOW_COMPARED), (COMPARED[0], 340)
    graph.add("PreviewAny", place, size, values={"source": text}, title="Report", in_api=False)


def frames(graph: Graph, titles: tuple[str, str, str, str] = TITLES) -> None:
    """The four frames of a workflow with one edit on the canvas."""
    models, words, sampling, pictures = titles
    _frame(graph, models, 370, 20)
    _frame(graph, words, 380, 420)
    _frame(graph, sampling, 440, 830)
    _frame(graph, pictures, 1040, 1300, 1740)


def _frame(graph: Graph, title: str, width: int, left: int, *further: int) -> None:
    """Add a frame around the columns of nodes at `left` and `further`, with its title above the badges of nodes."""
    foot = max(graph.foot(column) for column in (left, *further))
    graph.group(title, (left - 20, -TITLE, width, foot + ROOM + TITLE))
