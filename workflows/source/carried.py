"""Pictures that carry a workflow: dropped on the page, a WebP file opens as the workflow in its EXIF data.

The data stands where the host's own nodes that save WebP files put it, and pictures are not encoded again.
`python -m workflows.source.carried` in the repository's root puts the workflows as they are now into all pictures.
"""

import json
import struct
from pathlib import Path
from typing import Any

from PIL import Image

Content = dict[str, Any]
"""A workflow in the page's format."""

MAKE = 0x010F
"""The EXIF tag that holds the workflow, as `workflow:` and JSON."""
KEY = "workflow:"
PACK = Path(__file__).resolve().parents[2]
WORKFLOWS, IMAGES = PACK / "workflows", PACK / "web" / "docs" / "images"
PAGES = {
    "page_edit": "icedit_moe",
    "page_early_filter": "icedit_early_filter",
    "page_pin_candidate": "icedit_early_filter",
    "InContextEditInstruction_text_to_image": "icedit_text_to_image",
}
"""Pictures of the page and of more than one node, by name, and the workflow that each shows."""
PLAINEST = ("icedit", "icedit_moe")
"""A node's help shows the first of these that has it, or else the first of all."""
EXTENDED, WITH_ALPHA, WITH_EXIF = b"VP8X", 0x10, 0x08


def carry(picture: Path, workflow: Content) -> None:
    """Put a workflow into a WebP file in place of what it carries.

    Raises:
        ValueError: no still WebP file.
    """
    with Image.open(picture) as opened:
        if opened.format != "WEBP" or getattr(opened, "is_animated", False):
            raise ValueError(f"{picture.name} is no still WebP picture.")
        width, height, alpha = *opened.size, opened.has_transparency_data
    exif = Image.Exif()
    exif[MAKE] = KEY + json.dumps(workflow, separators=(",", ":"))
    flags = WITH_EXIF | (WITH_ALPHA if alpha else 0)
    head = struct.pack("<I", flags) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    kept = [chunk for chunk in _chunks(picture.read_bytes()) if chunk[0] not in (EXTENDED, b"EXIF")]
    # Without the mark of JPEG files that pillow puts before it.
    chunks = [(EXTENDED, head), *kept, (b"EXIF", exif.tobytes().removeprefix(b"Exif\x00\x00"))]
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks
    )
    picture.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


def carried(picture: Path) -> Content | None:
    """The workflow that a picture carries."""
    with Image.open(picture) as opened:
        text = str(opened.getexif().get(MAKE, ""))
    return json.loads(text.removeprefix(KEY)) if text.startswith(KEY) else None


def pictures() -> dict[Path, Path]:
    """Every picture that carries a workflow, with the workflow's file: thumbnails, help pictures, the README's."""
    files = sorted(WORKFLOWS.glob("*.json"), key=lambda file: (file.stem not in PLAINEST, file.stem))
    kinds = {file: _kinds(json.loads(file.read_text(encoding="utf-8"))) for file in files}
    shown = {file.with_suffix(".webp"): file for file in files if file.with_suffix(".webp").is_file()}
    for picture in sorted(IMAGES.glob("*.webp")):
        file = next((file for file in files if picture.stem in kinds[file]), None)
        if picture.stem in PAGES:
            file = WORKFLOWS / f"{PAGES[picture.stem]}.json"
        if file is not None:
            shown[picture] = file
    return shown


def _kinds(workflow: Content) -> set[str]:
    inside = [node for sub in workflow.get("definitions", {}).get("subgraphs", []) for node in sub["nodes"]]
    return {node["type"] for node in (*workflow["nodes"], *inside)}


def main() -> None:
    """Put the workflows as they are now into all pictures."""
    for picture, file in pictures().items():
        workflow = json.loads(file.read_text(encoding="utf-8"))
        if carried(picture) != workflow:
            carry(picture, workflow)


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Name and data of each part of a RIFF file."""
    found, at = [], 12
    while at + 8 <= len(content):
        (size,) = struct.unpack_from("<I", content, at + 4)
        found.append((content[at : at + 4], content[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return found


if __name__ == "__main__":
    main()
