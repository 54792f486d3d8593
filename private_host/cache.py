"""The folder for everything that is downloaded or installed. noxfile.py runs this file on its own."""

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """`ICEDIT_CACHE`, else the user's cache folder as this system has it."""
    return Path(os.environ.get("ICEDIT_CACHE") or platformdirs.user_cache_dir("comfyui-icedit", appauthor=False))
