"""The key of a judge's server. It comes from the environment and nowhere else: prompts are saved into pictures.

A workflow comes from anyone and names the server, so the key goes only to this machine and to hosts that the
environment names too.
"""

import ipaddress
import os
from urllib.parse import urlsplit

from ..judge import JudgeError

KEY_VARIABLE = "ICEDIT_JUDGE_API_KEY"
HOSTS_VARIABLE = "ICEDIT_JUDGE_API_HOSTS"


def key_for(url: str) -> str | None:
    """The key for the server at this address, None when there is none or this server may not have it.

    Raises:
        JudgeError: the key holds characters that would break a header; the key is not repeated.
    """
    key, host = os.environ.get(KEY_VARIABLE, "").strip(), (urlsplit(url).hostname or "").lower()
    if not key or not (_is_this_machine(host) or host in _named_hosts()):
        return None
    if not (key.isascii() and key.isprintable()):
        raise JudgeError(f"The environment variable {KEY_VARIABLE} holds characters that no key can have.")
    return key


def no_key_sent(url: str) -> str:
    """What to do when a server asks for a key and `key_for` gave none."""
    if not os.environ.get(KEY_VARIABLE, "").strip():
        return f"Put the key into the environment variable {KEY_VARIABLE} before starting ComfyUI."
    return (
        f"The key from {KEY_VARIABLE} was not sent, because workflows may come from anyone: allow it by putting "
        f"{urlsplit(url).hostname} into the environment variable {HOSTS_VARIABLE} (comma-separated)."
    )


def _named_hosts() -> set[str]:
    return {host.strip().lower() for host in os.environ.get(HOSTS_VARIABLE, "").split(",")} - {""}


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
