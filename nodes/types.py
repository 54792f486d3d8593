"""The pack's own port types."""

from comfy_api.latest import io

Layout = io.Custom("ICEDIT_LAYOUT")
Judge = io.Custom("ICEDIT_JUDGE")
Pairs = io.Custom("ICEDIT_PAIRS")
LoraName = io.Custom("STRING,COMBO")
"""The name of a file among the loras: for loaders, which have a list there, and for text."""
Usage = io.Custom("ICEDIT_EXPERT_USAGE")

CATEGORY = "ICEdit"
JUDGES_CATEGORY = f"{CATEGORY}/judges"
