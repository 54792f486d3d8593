"""What has to be the same for a run to be taken up again, kept beside its results."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ..errors import ManifestError
from .manifest import Manifest
from .plan import ManifestPlan

FINGERPRINT = "fingerprint.json"
ManifestFingerprint = Mapping[str, object]


def fingerprint_of(manifest: Manifest, plan: ManifestPlan) -> ManifestFingerprint:
    """Of the rows, of the workflows' contents, and of the command line's values."""
    rows = hashlib.sha256()
    for row in manifest.rows:
        rows.update(row.to_json().encode())
    settings = {name: value for name, value in asdict(plan.settings).items() if name != "workflow"}
    return {"manifest": rows.hexdigest(), "workflow": plan.digest, **json.loads(json.dumps(settings))}


def is_taken_up(folder: Path, fingerprint: ManifestFingerprint) -> bool:
    """Whether the folder is that of the same run, or of one that made nothing.

    Raises:
        ManifestError: it has those of another one.
    """
    try:
        kept = json.loads((folder / FINGERPRINT).read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        kept = {}
    names = {"manifest": "the manifest", "workflow": "the workflow", "mini": "the models", "sets": "--set"}
    if not _has_results(folder):
        return True
    changed = [names.get(name, f"--{name}") for name, value in fingerprint.items() if kept.get(name) != value]
    if changed:
        raise ManifestError(
            f"{folder} has the results of another run: {', '.join(changed)} changed since. Name another folder with "
            "--output; or to go on with that run, say what you said then."
        )
    return True


def _has_results(folder: Path) -> bool:
    lines = folder / "results.jsonl"
    return lines.exists() and lines.stat().st_size > 0
