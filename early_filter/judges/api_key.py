"""Which servers a judge may ask, and the key for them. Both come from the environment and nowhere else.

A workflow may come from anyone, and it names the server. So pictures and the key are sent only to this machine and to
hosts that the environment names. ComfyUI saves workflows into pictures, so a workflow may not hold a key.
"""

import ipaddress
import os
from urllib.parse import urlsplit

from ..judge import JudgeError

KEY_VARIABLE = "ICEDIT_JUDGE_API_KEY"
HOSTS_VARIABLE = "ICEDIT_JUDGE_API_HOSTS"


def check_host(url: str) -> None:
    """Check that a judge may ask the server at this address.

    Raises:
        ValueError: it is not on this machine, and the environment does not name it.
    """
    host = _host(url)
    if not _allowed(host):
        raise ValueError(
            f"base_url leads to {host}, which is not this machine. Your picture would be sent there, and workflows may "
            f"come from anyone. If you trust that server, put {host} into the environment variable {HOSTS_VARIABLE} "
            "(comma-separated) before starting ComfyUI."
        )


def key_for(url: str) -> str | None:
    """The key for the server at this address; None when there is no key, or when this server may not get it.

    Raises:
        JudgeError: the key holds characters that an HTTP header cannot hold. The message does not repeat the key.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key or not _allowed(_host(url)):
        return None
    if not (key.isascii() and key.isprintable()):
        raise JudgeError(f"The environment variable {KEY_VARIABLE} holds characters that no key can have.")
    return key


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()


def _allowed(host: str) -> bool:
    return _is_this_machine(host) or host in _named_hosts()


def _named_hosts() -> set[str]:
    return {host.strip().lower() for host in os.environ.get(HOSTS_VARIABLE, "").split(",")} - {""}


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
