"""Whether this ComfyUI is new enough, said in one sentence. Imports nothing that an old one lacks."""

import logging
import re

log = logging.getLogger(__name__)

OLDEST = (0, 16, 3)
"""The oldest ComfyUI that the tests run on; pyproject.toml says the same."""


def check_version() -> None:
    """Check ComfyUI's version before anything is imported that it might not have.

    Raises:
        RuntimeError: it is too old; the message is for the user.
    """
    try:
        from comfyui_version import __version__ as version
    except ImportError:
        version = "0.3.12 or older"  # 0.3.13 brought that file
    # A development version such as "0.17.0-rc1" has what its release will have.
    if tuple(int(number) for number in re.findall(r"\d+", version)[:3]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise RuntimeError(
            f"ICEdit needs ComfyUI {oldest} or newer, and this is ComfyUI {version}. Update ComfyUI, then restart it."
        )


def tell_hosts_without_entrypoint() -> None:
    """Put the reason into the log where ComfyUI does not know `comfy_entrypoint` and so never calls it."""
    try:
        import comfy_api.latest  # noqa: F401
    except ImportError:
        try:
            check_version()
        except RuntimeError as error:
            log.error("%s", error)
