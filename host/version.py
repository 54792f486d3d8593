"""Checks that this ComfyUI is new enough. Imports nothing that an old one lacks."""

import logging
import re

log = logging.getLogger(__name__)

OLDEST = (0, 16, 3)
"""The oldest ComfyUI that the tests run on; also in pyproject.toml."""


def check_version() -> None:
    """Check ComfyUI's version, before importing what an old one might lack.

    Raises:
        RuntimeError: it is too old; the message is for the user.
    """
    try:
        from comfyui_version import __version__ as version
    except ImportError:
        version = "0.3.12 or older"  # the file came with 0.3.13
    # A development version such as "0.17.0-rc1" has what its release will have.
    if tuple(int(number) for number in re.findall(r"\d+", version)[:3]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise RuntimeError(
            f"ICEdit needs ComfyUI {oldest} or newer, and this is ComfyUI {version}. Update ComfyUI, then restart it."
        )


def tell_hosts_without_entrypoint() -> None:
    """Log that ComfyUI is too old when it does not know `comfy_entrypoint`: it skips the pack without a reason."""
    try:
        import comfy_api.latest  # noqa: F401
    except ImportError:
        try:
            check_version()
        except RuntimeError as error:
            log.error("%s", error)
