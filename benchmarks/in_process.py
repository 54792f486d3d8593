"""Loads ComfyUI and this pack into a benchmark's own process."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent


def load_host_and_pack(cuda: bool = False, arguments: Sequence[str] = ()) -> None:
    """Load ComfyUI from ICEDIT_HOST, with arguments of its own, and the pack as `icedit`, as the tests do."""
    sys.path.insert(0, os.environ["ICEDIT_HOST"])
    import comfy.options

    # As ComfyUI's main does it: before its nodes put their own folders, which hold another `utils`, on the path.
    import utils.install_util  # noqa: F401

    comfy.options.enable_args_parsing()
    sys.argv, kept = [sys.argv[0], *([] if cuda else ["--cpu"]), *arguments], sys.argv
    import comfy.cli_args

    sys.argv = kept
    load_pack()


def load_pack() -> None:
    """Load the pack as `icedit` and make the tests' `support` importable; logic folders and client need no ComfyUI."""
    sys.path.insert(0, str(PACK / "tests"))
    from support import pack

    pack.load_pack()
