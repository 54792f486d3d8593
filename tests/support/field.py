"""Small made-up files in the layouts in which the field's benchmarks are published."""

import io
import json

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet


def picture(seed, width=48, height=48, kind="PNG"):
    """The bytes of a picture of its own."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def cell(seed, **size):
    """As the hub's library stores a picture in a table."""
    return {"bytes": picture(seed, **size), "path": None}


def mask_cell(width=48, height=48):
    """A source with a transparent hole."""
    pixels = np.full((height, width, 4), 128, dtype=np.uint8)
    pixels[8:16, 8:24] = (0, 0, 0, 0)
    content = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def write_arrow(path, rows, form):
    table = pa.Table.from_pylist(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        parquet.write_table(table, path.with_suffix(".parquet"))
        return
    opened = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with opened(str(path.with_suffix(".arrow")), table.schema) as writer:
        writer.write_table(table)


def gedit_row(seed, key, task="subject-add", language="en", **values):
    return {
        "key": key, "task_type": task, "instruction": f"add {key}", "instruction_language": language,
        "input_image": cell(seed), "input_image_raw": cell(seed, width=96, height=64), "Intersection_exist": True,
        **values,
    }  # fmt: skip


def brush_row(seed, image, turn, **values):
    return {
        "img_id": image, "turn_index": turn, "source_img": cell(seed), "mask_img": mask_cell(),
        "instruction": f"turn {turn} of {image}", "target_img": cell(seed + 1), **values,
    }  # fmt: skip


def emu_row(seed, index, **values):
    return {
        "idx": index, "instruction": f"edit {index}", "image": cell(seed, kind="JPEG"), "task": "local",
        "input_caption": "a hill", "output_caption": "a red hill", **values,
    }  # fmt: skip


def write_imgedit(folder, **changes):
    """A list of three edits and their pictures; changes replace or add rows."""
    rows = {
        "1082": {"id": "animal/a.jpg", "prompt": "Make it smooth.", "edit_type": "adjust"},
        "673": {"id": "style/b.jpg", "prompt": "Make it a woodcut.", "edit_type": "style"},
        "97": {"id": "style/b.jpg", "prompt": "Add a chandelier.", "edit_type": "add"},
    }
    for number, name in enumerate(("animal/a.jpg", "style/b.jpg")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(number, kind="JPEG"))
    (folder / "basic_edit.json").write_text(json.dumps(rows | changes))


def pie_row(seed, **values):
    return {
        "image_path": f"0_random_140/{seed:012d}.jpg", "original_prompt": "a [round] cake",
        "editing_prompt": "a [square] cake", "editing_instruction": "make it square", "editing_type_id": "0",
        "blended_word": "cake cake", "mask": [512 * 100 + 100, 50, 512 * 101 + 100, 50], **values,
    }  # fmt: skip


def write_pie(folder, rows):
    """The list and, where its path is a picture's, the pictures."""
    for seed, row in enumerate(rows.values()):
        path = folder / "annotation_images" / row["image_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(seed, width=512, height=512, kind="JPEG"))
    (folder / "mapping_file.json").write_text(json.dumps(rows))
