"""Asks a vision-language model on an OpenAI-compatible server (Ollama, llama.cpp, vLLM, LM Studio, hosted services).

The key comes from the environment (see api_key) and is removed from everything that a server sends back.
"""

import asyncio
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from ..judge import JudgeError, Poll
from .api_key import KEY_VARIABLE, check_host, key_for
from .chat_request import chat_body
from .polled import run_polled
from .prompts import Request

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger(__name__)

MAX_RESPONSE = 1 << 20
"""Bytes. An answer has a few hundred."""

LONGEST_WAIT = 30.0
"""The longest pause between two tries, in seconds, even if a server asks for more."""


class _TemporaryError(JudgeError):
    """Worth another try, after `wait` seconds if the server says so."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class _RefusedError(JudgeError):
    """The server does not take this request; it may take a plainer one."""


@dataclass(frozen=True)
class Endpoint:
    """A server and one of its models.

    Attributes:
        base_url: http or https, up to and including "/v1", which is added to an address without a path. On this machine
            or on a host that the environment names (see api_key).
        model: as the server lists it.
        timeout: seconds for one try, from connecting to the last byte.
        retries: further tries after temporary errors (no connection, a cut connection, 429, 5xx).
        backoff: seconds before the second try, doubled each time.
        parallel: requests under way at the same time.
        one_picture: send one labelled picture instead of several, for models that take only one.

    Raises:
        ValueError: a value is not usable, or the server may not be asked. The message does not repeat the
            whole address, which may hold a password.
    """

    base_url: str
    model: str
    timeout: float = 120.0
    retries: int = 2
    backoff: float = 1.0
    parallel: int = 2
    one_picture: bool = False
    _plain: list[bool] = field(default_factory=list, init=False, repr=False, compare=False)
    """Not empty: the server has refused an answer's schema and taken the same question without it."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url.strip())
            host, _ = parts.hostname, parts.port
        except ValueError:
            parts, host = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError(
                "base_url is not an address of a server: it must start with http:// or https://, for example "
                "http://localhost:11434/v1 (Ollama)."
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "base_url must not hold a user, password, key or '?': it is saved in your pictures. Put the key into "
                f"the environment variable {KEY_VARIABLE} before starting ComfyUI."
            )
        check_host(self.base_url.strip())
        if not self.model.strip():
            raise ValueError("model is empty: write the model's name as the server lists it, for example qwen2.5vl:7b.")
        waits = 0 < self.timeout < math.inf and 0 <= self.backoff < math.inf
        if not waits or self.retries < 0 or self.parallel < 1:
            raise ValueError("timeout and parallel must be above 0, retries and backoff at least 0.")

    @property
    def url(self) -> str:
        # Built from the parts that were checked, because another parser might split the text in another way.
        base = urlunsplit(urlsplit(self.base_url.strip())).rstrip("/")
        if base.endswith("/chat/completions"):
            return base
        return f"{base}/chat/completions" if urlsplit(base).path else f"{base}/v1/chat/completions"

    def ask(self, requests: Sequence[Request], poll: Poll) -> list[str | JudgeError]:
        """Each request's answer, or why there is none, in order. `poll` is called every 0.05 s and may raise."""
        bodies = []
        for request in requests:
            poll()
            bodies.append(self._bodies(request))
        return run_polled(_Exchange(self, key_for(self.url)).ask_all(bodies), poll)

    def _bodies(self, request: Request) -> "_Bodies":
        model = self.model.strip()
        plain = partial(chat_body, model, request, self.one_picture, plain=True)
        if request.schema is None or self._plain:
            return plain(), None
        return chat_body(model, request, self.one_picture), plain


_Bodies = tuple[bytes, Callable[[], bytes] | None]
"""What is sent, and what makes the plainer one that is sent after that was refused."""


@dataclass(frozen=True)
class _Exchange:
    """The requests of one call. It holds the key during the call, and nothing that it returns or raises contains it."""

    endpoint: Endpoint
    key: str | None = field(repr=False)

    async def ask_all(self, bodies: Sequence[_Bodies]) -> list[str | JudgeError]:
        import aiohttp

        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        limit = asyncio.Semaphore(self.endpoint.parallel)
        timeout = aiohttp.ClientTimeout(total=self.endpoint.timeout)
        # trust_env stays off: a .netrc file could add other credentials.
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            return await asyncio.gather(*(self._ask_plainer(session, limit, each) for each in bodies))

    async def _ask_plainer(
        self, session: "aiohttp.ClientSession", limit: asyncio.Semaphore, bodies: _Bodies
    ) -> str | JudgeError:
        body, plainer = bodies
        answer = await self._ask(session, limit, body)
        if isinstance(answer, _RefusedError) and plainer is not None:
            log.info("%s Asking without a schema for the answer.", answer)
            answer = await self._ask(session, limit, plainer())
            if not isinstance(answer, JudgeError):
                self.endpoint._plain.append(True)
        return answer

    async def _ask(self, session: "aiohttp.ClientSession", limit: asyncio.Semaphore, body: bytes) -> str | JudgeError:
        wait = self.endpoint.backoff
        for left in reversed(range(self.endpoint.retries + 1)):
            try:
                async with limit:
                    return await self._post(session, body)
            except _TemporaryError as error:
                if not left:
                    return error
                pause = min(LONGEST_WAIT, wait if error.wait is None else max(wait, error.wait))
                log.warning("%s Trying again in %.1f s.", error, pause)
                await asyncio.sleep(pause)
                wait *= 2
            except JudgeError as error:
                return error
        raise AssertionError("range(retries + 1) is never empty")

    async def _post(self, session: "aiohttp.ClientSession", body: bytes) -> str:
        import aiohttp

        url = self.endpoint.url
        try:
            async with session.post(url, data=body, allow_redirects=False) as response:
                text = await self._read(response)
                self._check(response, text)
        except asyncio.TimeoutError:
            raise JudgeError(
                f"{url} did not answer within {self.endpoint.timeout:g} s. The model may still be loading, or be too "
                "large for the machine: raise timeout, or take a smaller model."
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise _TemporaryError(
                f"Cannot connect to {url} ({self._excerpt(str(error.os_error))}). Is the server running?"
            ) from None
        # ValueError: aiohttp refuses characters in the key or the address.
        except (aiohttp.ClientError, ValueError) as error:
            raise _TemporaryError(f"{url} broke off ({type(error).__name__}).") from None
        return self._content(text)

    async def _read(self, response: "aiohttp.ClientResponse") -> str:
        read = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            read += chunk
            if len(read) > MAX_RESPONSE:
                raise JudgeError(f"{self.endpoint.url} sent more than {MAX_RESPONSE} bytes: no answer to read.")
        return self._without_key(read.decode("utf-8", errors="replace"))

    def _check(self, response: "aiohttp.ClientResponse", text: str) -> None:
        status, url = response.status, self.endpoint.url
        if status == 200:
            return
        said = self._excerpt(text)
        if 300 <= status < 400:
            target = self._excerpt(response.headers.get("Location", "nowhere"))
            raise JudgeError(f"{url} redirects to {target}. Redirects are not followed: write the final address.")
        if status in (401, 403):
            no_key = f"Put the key into the environment variable {KEY_VARIABLE} before starting ComfyUI."
            sent = f"The key from {KEY_VARIABLE} was sent." if self.key else no_key
            raise JudgeError(f"{url} refuses access ({status}). {sent} It says: {said}")
        if status in (408, 425, 429) or status >= 500:
            raise _TemporaryError(f"{url} answered {status}: {said}", _seconds(response.headers.get("Retry-After")))
        hint = f" Check base_url and the model's name {self.endpoint.model!r}." if status == 404 else ""
        refused = _RefusedError if status in (400, 422) else JudgeError
        raise refused(f"{url} answered {status}: {said}{hint}")

    def _content(self, text: str) -> str:
        try:
            content = json.loads(text)["choices"][0]["message"]["content"]
            if isinstance(content, list):
                content = "".join(part["text"] for part in content if part.get("type") == "text")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            content = None
        if not isinstance(content, str):
            raise JudgeError(
                f"{self.endpoint.url} did not answer as an OpenAI-compatible server: {self._excerpt(text)}"
            ) from None
        return self._without_key(content)

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text

    def _excerpt(self, text: str) -> str:
        """At most 300 characters on one line. The key is removed before the text is cut, or a part of it might stay."""
        line = " ".join(self._without_key(text).split())
        return (line[:300] + "...") if len(line) > 300 else line or "nothing"


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:  # a date
        return None
