"""Requests to one ComfyUI server, and what users read when they fail."""

import asyncio
import logging
import types
from typing import Any

import aiohttp
from yarl import URL

from .address import ServerAddress
from .answers import json_object, refusal
from .errors import ComfyError, SocketRefusedError, UnreachableError

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 30.0
CONNECT_SECONDS = 30.0
HANDSHAKE_SECONDS = 45.0
"""More than the time to connect, so that a server that is not there is not taken for one that opens no socket."""
UNREACHABLE = (408, 429, 502, 503, 504, 520, 521, 522, 523, 524, 530)
"""What a gateway answers as long as the server behind it does not; those above 511 are Cloudflare's."""
ANSWER_BYTES = 2**28
FILE_BYTES = 2**31


class _RedirectedError(Exception):
    """A redirect. It is not followed: its target must not get the password."""


class Connection:
    """The session with one server. Open it before, close it after all requests."""

    def __init__(self, server: str | ServerAddress) -> None:
        self.address = server if isinstance(server, ServerAddress) else ServerAddress.of(server)
        self._session: aiohttp.ClientSession | None = None
        self._told = False

    def open(self) -> None:
        """Make the session; needs a running event loop."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=300)
        # On a redirect to another server aiohttp drops `Authorization`, but sends all other headers; and it may turn a
        # POST into a GET of another page.
        redirects = aiohttp.TraceConfig()
        redirects.on_request_redirect.append(_refuse_redirect)
        # Every run holds a socket; with aiohttp's limit of 100 connections many runs at once would wait for each other.
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0),
            headers=self.address.headers,
            trace_configs=[redirects],
        )

    async def close(self) -> None:
        await self._open_session.close()

    @property
    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("Use ComfyClient in an `async with` block.")
        return self._session

    async def json(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """The JSON object in the server's answer.

        Raises:
            UnreachableError: no connection.
            ComfyError: the server refused, or does not answer like a ComfyUI server.
        """
        status, kind, content = await self._request(method, path, **arguments)
        answer = json_object(content)
        if status != 200:
            raise self._refused(status, kind, content, path)
        if answer is None:
            raise self.web_page(path) if kind == "text/html" else self.unlike_comfyui(path)
        return answer

    async def post(self, path: str, body: dict[str, Any], **arguments: Any) -> None:
        """Post something whose answer does not matter."""
        await self._request("POST", path, json=body, **arguments)

    async def file(self, path: str, query: dict[str, str]) -> bytes | None:
        """A file on the server; None if there is none of that name.

        Raises:
            UnreachableError: no connection.
            ComfyError: the server refused, or sent a page in the file's place.
        """
        status, kind, content = await self._request("GET", path, query, FILE_BYTES)
        if status == 404:
            return None
        if status != 200:
            raise self._refused(status, kind, content, path)
        if kind == "text/html":
            raise self.web_page(path)
        return content

    async def socket(self, listener: str) -> aiohttp.ClientWebSocketResponse:
        """A socket that gets the messages of all prompts that were queued under the id `listener`.

        Raises:
            UnreachableError: no connection.
            SocketRefusedError: the server does not open one.
        """
        query = [*self.address.query, ("clientId", listener)]
        opening = self._open_session.ws_connect(
            f"{self.address.url}/ws", params=query, heartbeat=HEARTBEAT_SECONDS, max_msg_size=ANSWER_BYTES
        )
        try:
            return await asyncio.wait_for(opening, HANDSHAKE_SECONDS)
        except aiohttp.WSServerHandshakeError as error:
            reason = f"HTTP status {error.status}"
            failed = self._gateway(error.status) if error.status in UNREACHABLE else SocketRefusedError(reason)
        except aiohttp.ClientError as error:
            failed = self._unreachable(error)
        except asyncio.TimeoutError:
            failed = SocketRefusedError(f"no answer within {HANDSHAKE_SECONDS:.0f} seconds")
        except _RedirectedError as error:
            failed = SocketRefusedError(f"a redirect to {self.address.clean(str(error))}")
        # Not in the except clause: aiohttp's errors hold the request with all its headers.
        raise failed

    def tell_of_refused_socket(self, reason: str) -> None:
        """Warn once, not for every run: without a socket only the progress is missing."""
        if not self._told:
            log.warning(
                "%s opens no websocket (/ws: %s). The runs go on without it: only their place in the queue and their "
                "end are known. A gateway must let websockets through for the steps to be shown.",
                self.address,
                reason,
            )
        self._told = True

    def unlike_comfyui(self, path: str) -> ComfyError:
        return ComfyError(f"{self.address} does not answer {path} like a ComfyUI server. Check the address.")

    def web_page(self, path: str) -> ComfyError:
        return ComfyError(
            f"{self.address} answers {path} with a web page: one to log in, or it is not the address of a ComfyUI. "
            f"{self.address.how_to_log_in}"
        )

    async def _request(
        self, method: str, path: str, query: dict[str, str] | None = None, limit: int = ANSWER_BYTES, **arguments: Any
    ) -> tuple[int, str, bytes]:
        """Status, content type and content."""
        parameters = [*self.address.query, *(query or {}).items()]
        url = URL(f"{self.address.url}{path}", encoded=True)
        try:
            async with self._open_session.request(method, url, params=parameters, **arguments) as response:
                content = await _content(response, limit)
                status, kind = response.status, response.content_type
        except aiohttp.ClientError as error:
            failed: ComfyError = self._unreachable(error)
        except _RedirectedError as error:
            failed = self._redirected(path, str(error))
        else:
            if content is None:
                raise ComfyError(f"{self.address} answers {path} with more than {limit // 2**20} MB.")
            if status in UNREACHABLE:
                raise self._gateway(status)
            return status, kind, content
        raise failed

    def _refused(self, status: int, kind: str, content: bytes, path: str) -> ComfyError:
        """Why the server did not do what it was asked for."""
        reasons = refusal(json_object(content))
        said = self.address.clean(reasons or ("" if kind == "text/html" else content[:300].decode(errors="replace")))
        if status == 401:
            return ComfyError(f"{self.address} wants a login (HTTP status 401). {self.address.how_to_log_in} {said}")
        if status == 403:
            return ComfyError(
                f"{self.address} refuses access to {path} (HTTP status 403). {self.address.how_to_log_in} {said}"
            )
        if status == 413:
            return ComfyError(
                f"{self.address} takes nothing of this size (HTTP status 413). Send a smaller picture, or raise the "
                "limit: --max-upload-size of ComfyUI, client_max_body_size of nginx."
            )
        return ComfyError(said if reasons else f"{self.address} answered HTTP status {status} to {path}: {said}")

    def _redirected(self, path: str, target: str) -> ComfyError:
        if target == f"{self.address}{path}".replace("http://", "https://", 1):
            return ComfyError(f"{self.address} wants to be asked by https. Write https:// in the server's address.")
        return ComfyError(
            f"{self.address} sends whoever asks for {path} to {self.address.clean(target)}, most likely to log in "
            f"there. {self.address.how_to_log_in}"
        )

    def _gateway(self, status: int) -> UnreachableError:
        return UnreachableError(f"{self.address} answered HTTP status {status}: its gateway does not reach ComfyUI.")

    def _unreachable(self, error: aiohttp.ClientError) -> UnreachableError:
        # The text of these errors has the address with its query.
        told = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
        return UnreachableError(
            f"The connection to {self.address} failed: {self.address.clean(told) or type(error).__name__}. "
            "Check that ComfyUI is running there and that the address is right."
        )


async def _content(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body; None if it is larger."""
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > limit:
            response.close()
            return None
    return bytes(content)


async def _refuse_redirect(
    _session: aiohttp.ClientSession, _context: types.SimpleNamespace, redirect: aiohttp.TraceRequestRedirectParams
) -> None:
    location = redirect.response.headers.get("Location")
    if location is None:
        return
    redirect.response.close()
    try:
        target = str(redirect.url.join(URL(location)).with_user(None).with_query(None).with_fragment(None))
    except ValueError:
        target = "an address that is none"
    raise _RedirectedError(target)
