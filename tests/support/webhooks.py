"""An HTTP receiver of events, as a shop would have: real requests, answers as a test says."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """What came in one request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events in it."""
        found = json.loads(self.body)
        return found if isinstance(found, list) else [found]


Answer = int | tuple[int, dict[str, str]] | Callable[[BaseHTTPRequestHandler], None]
"""A status, with headers, or what writes the answer by hand."""


@dataclass(slots=True)
class WebhookReceiver:
    """Remembers requests.

    Attributes:
        answer: Called with each request; what it returns is answered.
        requests: All of them.
        taken: The events that were answered with 2xx, in order.
        most: Requests at the same time at most.

    """

    answer: Callable[[Request], Answer] = lambda _: 204
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    now: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def subjects(self) -> list[str]:
        """Of which entities the events are that were taken, with versions."""
        return [f"{event['subject']}{event['version']}" for event in self.taken]


@contextmanager
def webhook_receiver(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[WebhookReceiver]:
    """Serve until the end of the block, on loopback; with `tls` over https."""
    state = WebhookReceiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            with state.lock:
                state.now += 1
                state.most = max(state.most, state.now)
            body = self.rfile.read(int(self.headers["content-length"]))
            request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            answer = state.answer(request)
            status, headers = answer if isinstance(answer, tuple) else (answer, {})
            with state.lock:
                state.now -= 1
                state.requests.append(request)
                if isinstance(status, int) and 200 <= status < 300:
                    state.taken += request.events
            try:
                if not isinstance(status, int):
                    self.close_connection = True
                    status(self)
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is of the base class
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    state.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/events"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
