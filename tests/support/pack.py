"""The pack as a package, for tests and benchmarks."""

import importlib.util
import sys
from pathlib import Path

PACK = Path(__file__).resolve().parents[2]


def load_pack() -> None:
    """Make it importable as `icedit`, as ComfyUI does: its folder may have any name and is not on sys.path."""
    spec = importlib.util.spec_from_file_location(
        "icedit", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["icedit"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
