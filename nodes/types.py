"""The pack's own port types."""

from comfy_api.latest import io

Layout = io.Custom("ICEDIT_LAYOUT")
Judge = io.Custom("ICEDIT_JUDGE")
Pairs = io.Custom("ICEDIT_PAIRS")

CATEGORY = "ICEdit"
JUDGES_CATEGORY = f"{CATEGORY}/judges"
