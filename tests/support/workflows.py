"""Where the shipped workflows are."""

from pathlib import Path

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
PAGE_WORKFLOWS = sorted(WORKFLOWS.glob("*.json"))
API_WORKFLOWS = sorted((WORKFLOWS / "api").glob("*.json"))
