"""A server's address and the login for it. Only the address is shown."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from yarl import URL

from .errors import ComfyError

BEARER_VARIABLE = "ICEDIT_SERVER_TOKEN"
"""Sent as `Authorization: Bearer`, which most hosts, gateways and login packs take."""
HEADERS_VARIABLE = "ICEDIT_SERVER_HEADERS"
"""Headers of any other name, as X-API-Key or those of Cloudflare Access: one `NAME: VALUE` per line."""
HIDDEN = "***"
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True)
class ServerAddress:
    """Where a server is, safe to print, and the headers and the query that go with every request to it."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return self.url

    @classmethod
    def of(cls, text: str, environ: Mapping[str, str] | None = None) -> "ServerAddress":
        """From an address as users write it, with or without a user, a password and a query.

        Args:
            environ: environment variables that may hold a token and headers for this server.

        Raises:
            ComfyError: the text is not an address, or a variable is not usable. What may be secret is not quoted.
        """
        url = _parsed(text)
        query = tuple(url.query.items())
        headers, secrets = _headers(environ or {})
        if url.user is not None:
            _refuse_two_logins(headers)
            user, password = url.user, url.password or ""
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            headers.append(("Authorization", f"Basic {pair}"))
            # A user without a password is a token.
            secrets += [pair, password or user]
        secrets += [value for _, value in query]
        shown = str(url.with_user(None).with_query(None).with_fragment(None)).rstrip("/")
        return cls(shown, tuple(headers), query, _all_forms(secrets))

    def clean(self, text: str) -> str:
        """Text from a server, safe to show: without secrets and terminal control characters."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return "".join(character if character.isprintable() or character in "\n\t" else " " for character in text)

    @property
    def how_to_log_in(self) -> str:
        """What users can do about a server that wants to know who they are."""
        if self.headers or self.query:
            return "Check the user and password or the token that you gave: the server does not know them."
        return (
            "Give a user and a password in the address, as http://USER:PASSWORD@host:8188, or a token in the "
            f"environment variable {BEARER_VARIABLE}."
        )


def _parsed(text: str) -> URL:
    text = text.strip()
    scheme, found, rest = text.partition("://")
    if not found or scheme.lower() not in ("http", "https"):
        shown = "" if re.search("[@?#=]", text) else f" {text!r}"
        raise ComfyError(f"The server address{shown} must start with http:// or https://, as in http://127.0.0.1:8188")
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    # An @ further on is that of a password with one of these characters in it: what is before it is no host.
    # A byte that is no character, or a control character, would be left out silently.
    url = None if "@" in rest[len(host) :] or not text.isprintable() else _url(text)
    if url is None:
        raise ComfyError(
            "The server address is not of the form http://host:8188 or http://USER:PASSWORD@host:8188. It is not shown "
            "because it may hold a password. In a password, write / as %2F, ? as %3F, # as %23, @ as %40, % as %25."
        )
    return url


def _url(text: str) -> URL | None:
    try:
        url = URL(text)
        return url if url.host and url.port else None
    except ValueError:
        return None


def _headers(environ: Mapping[str, str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The headers that the variables hold, and what is secret in them."""
    headers: list[tuple[str, str]] = []
    secrets: list[str] = []
    for number, line in enumerate(environ.get(HEADERS_VARIABLE, "").split("\n"), start=1):
        name, _, value = (part.strip() for part in line.partition(":"))
        if not line.strip():
            continue
        if not HEADER_NAME.fullmatch(name) or not value or not value.isprintable():
            raise ComfyError(f"Line {number} of {HEADERS_VARIABLE} is not of the form NAME: VALUE. It is not shown.")
        headers.append((name, value))
        secrets += [value, value.rpartition(" ")[2]]
    if token := environ.get(BEARER_VARIABLE, "").strip():
        if not token.isprintable():
            raise ComfyError(f"{BEARER_VARIABLE} holds a line break or another character that no token has.")
        _refuse_two_logins(headers)
        secret = re.sub("^bearer +", "", token, flags=re.IGNORECASE)
        headers.append(("Authorization", f"Bearer {secret}"))
        secrets.append(secret)
    return headers, secrets


def _refuse_two_logins(headers: list[tuple[str, str]]) -> None:
    if any(name.lower() == "authorization" for name, _ in headers):
        raise ComfyError(
            "There are two ways to log in, and a server takes one: a user and password in the address, a token in "
            f"{BEARER_VARIABLE}, or an Authorization header in {HEADERS_VARIABLE}. Leave out the others."
        )


def _all_forms(secrets: list[str]) -> tuple[str, ...]:
    """Also quoted as in addresses; the longest first, so that no part of one is left when a shorter one is replaced."""
    forms = {form for secret in secrets if secret for form in (secret, quote(secret), quote(secret, safe=""))}
    return tuple(sorted(forms, key=len, reverse=True))
