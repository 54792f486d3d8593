"""Stands between a client and a server, on the test's event loop, so that what happens to connections can be made."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

HOP_BY_HOP = {"host", "content-length", "transfer-encoding", "content-encoding", "connection"}


class Proxy:
    """Passes everything on. Sockets are cut by `cut`, kept silent while `muted`; while `down` nothing is answered.

    `instead` may answer a request in the server's place, as gateways do that want a login, or raise what they answer.
    """

    def __init__(self, server: str, session: aiohttp.ClientSession) -> None:
        self.url = ""
        self.muted = False
        self.down: str | None = None
        self.requests: list[str] = []
        self.received: list[web.Request] = []
        self.instead: Callable[[web.Request], web.StreamResponse | None] = lambda _: None
        self.sockets: list[tuple[web.Request, web.WebSocketResponse]] = []
        self.linger = asyncio.Event()
        self.linger.set()
        self._server, self._session = server, session

    def cut(self) -> None:
        """The client's sockets end without a word, as those of a lost network."""
        for request, _ in self.sockets:
            if request.transport is not None:
                request.transport.abort()
        self.sockets.clear()

    async def say(self, text: str) -> None:
        """To every client, in the server's name."""
        for _, socket in self.sockets:
            if not socket.closed:
                await socket.send_str(text)

    async def running(self) -> str:
        """The id of the prompt that the server works on, once there is one."""
        while not (running := (await self.queue())["queue_running"]):
            await asyncio.sleep(0.05)
        return running[0][1]

    async def queue(self) -> dict[str, list[Any]]:
        async with self._session.get(f"{self._server}/queue") as answer:
            return await answer.json()

    async def post(self, path: str, body: dict[str, object]) -> None:
        """To the server, past the gateway."""
        async with self._session.post(f"{self._server}{path}", json=body):
            pass

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        self.received.append(request)
        if self.down == "no answer":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.down == "gateway":
            return web.Response(status=503, text="<html>Service Unavailable</html>")
        if (answer := self.instead(request)) is not None:
            return answer
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        body = await request.read()
        address = f"{self._server}{request.path_qs}"
        async with self._session.request(request.method, address, data=body, headers=headers) as answer:
            content_type = answer.headers.get("Content-Type", "application/octet-stream")
            return web.Response(status=answer.status, body=await answer.read(), headers={"Content-Type": content_type})

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append((request, socket))
        async with self._session.ws_connect(f"{self._server}{request.path_qs}", max_msg_size=0) as upstream:
            passing = asyncio.create_task(self._pass_on(upstream, socket))
            async for _ in socket:
                pass
            passing.cancel()
            await self.linger.wait()
        return socket

    async def _pass_on(self, upstream: aiohttp.ClientWebSocketResponse, socket: web.WebSocketResponse) -> None:
        async for message in upstream:
            if not self.muted and not socket.closed and message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)


@asynccontextmanager
async def proxy_to(server: str) -> AsyncIterator[Proxy]:
    async with aiohttp.ClientSession() as session:
        proxy = Proxy(server, session)
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield proxy
        finally:
            proxy.cut()
            proxy.linger.set()
            await runner.cleanup()
