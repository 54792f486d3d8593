"""Where the pack and its shipped workflows are."""

from pathlib import Path

PACK = Path(__file__).resolve().parents[2]
WORKFLOWS = PACK / "workflows"
PAGE_WORKFLOWS = sorted(WORKFLOWS.glob("*.json"))
API_WORKFLOWS = sorted((WORKFLOWS / "api").glob("*.json"))
