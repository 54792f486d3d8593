"""What the ComfyUI under test has."""

import os
from pathlib import Path


def flux_shows_values() -> bool:
    """Whether its FLUX hands attention values to patches."""
    layers = Path(os.environ["ICEDIT_HOST"]) / "comfy" / "ldm" / "flux" / "layers.py"
    return "attn1_patch" in layers.read_text(encoding="utf-8")
