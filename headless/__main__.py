"""`python -m headless` in the repository's root: see `python -m headless --help`."""

import importlib.util
import sys
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent


def _load_pack() -> None:
    """As ComfyUI does it: the folder may have any name, and its folders import each other relatively."""
    spec = importlib.util.spec_from_file_location(
        "icedit", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["icedit"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


_load_pack()

from icedit.headless.cli import main  # noqa: E402

sys.exit(main())
