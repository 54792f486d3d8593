"""What the ComfyUI under test has; tests of what it lacks are skipped."""

import os
from pathlib import Path

import pytest


def need_shown_values() -> None:
    """Skip the test where FLUX does not hand its attention values to patches."""
    layers = Path(os.environ["ICEDIT_HOST"]) / "comfy" / "ldm" / "flux" / "layers.py"
    if "attn1_patch" not in layers.read_text(encoding="utf-8"):
        pytest.skip("this host's FLUX does not show its attention values")


def need_for(workflow: Path) -> None:
    """Skip the test where a shipped workflow cannot run."""
    if workflow.name == "icedit_inversion.json":
        need_shown_values()
    if workflow.stem in ("icedit_say_where", "Region by Words (ICEdit)"):
        need_words_to_masks()


def need_words_to_masks() -> None:
    """Skip the test where ComfyUI has no SAM 3 of its own."""
    if not (Path(os.environ["ICEDIT_HOST"]) / "comfy_extras" / "nodes_sam3.py").exists():
        pytest.skip("this host cannot find things by words")
