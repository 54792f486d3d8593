"""A real HTTP server on this machine that answers chat requests, well or badly."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from icedit.early_filter.judges.endpoint import Endpoint


@dataclass
class Reply:
    """What the server sends. `length` overrides Content-Length; `hang` waits before the headers, `drip` in the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    hang: float = 0.0
    drip: float = 0.0


def says(text: str) -> Reply:
    return Reply(json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode())


@dataclass
class Call:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float


class ChatServer:
    """Replies by a function of the number of the request, from 0, and the request; remembers all requests."""

    def __init__(self, reply: Callable[[int, Call], Reply]) -> None:
        self.calls: list[Call] = []
        self.under_way = self.most_under_way = 0
        self.lock, self.closing = threading.Lock(), threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    call = Call(self.path, dict(self.headers), body, time.monotonic())
                    number = len(outer.calls)
                    outer.calls.append(call)
                    outer.under_way += 1
                    outer.most_under_way = max(outer.most_under_way, outer.under_way)
                answer = reply(number, call)
                outer.closing.wait(answer.hang)
                with outer.lock:
                    # Before the answer: a client that has it may send its next request at once.
                    outer.under_way -= 1
                # The client may have given up, which is what some tests are about.
                with suppress(BrokenPipeError, ConnectionResetError):
                    self.send(answer)

            def send(self, answer: Reply) -> None:
                self.send_response(answer.status)
                headers = {"Content-Type": "application/json"} | answer.headers
                headers["Content-Length"] = str(len(answer.body) if answer.length is None else answer.length)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for start in range(0, len(answer.body), 1 << 16 if not answer.drip else 1):
                    self.wfile.write(answer.body[start : start + (1 << 16 if not answer.drip else 1)])
                    if outer.closing.wait(answer.drip):
                        return

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self) -> "ChatServer":
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def endpoint(server: ChatServer, **options: Any) -> Endpoint:
    """A judge's way to this server that tries again soon."""
    return Endpoint(server.url, "a-model", **({"timeout": 60.0, "backoff": 0.01} | options))
