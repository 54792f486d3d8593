"""The pack's own port types."""

from comfy_api.latest import io

Layout = io.Custom("ICEDIT_LAYOUT")
Judge = io.Custom("ICEDIT_JUDGE")
Usage = io.Custom("ICEDIT_EXPERT_USAGE")

CATEGORY = "ICEdit"
JUDGES_CATEGORY = f"{CATEGORY}/judges"
