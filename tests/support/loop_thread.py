"""A TCP server on a port of loopback whose event loop runs in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any, Self

_PATIENCE = 30.0


class LoopThread:
    """Serves connections by `serve`, from `__enter__` to `__exit__`; then nothing of it is left.

    With a context it speaks TLS.

    Attributes:
        port: The port, known as soon as it runs.
        loop: The event loop of its thread.

    """

    def __init__(self, name: str, context: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self._context = context
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._ready = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(_PATIENCE), "the server did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_PATIENCE)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end; it is closed afterwards."""
        raise NotImplementedError

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._writers)

    def reset_all(self) -> None:
        """Reset all connections. May be called from any thread."""
        self.loop.call_soon_threadsafe(self._reset_all)

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            reset(writer)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        working: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.add(writer)
            task = self.loop.create_task(self._serve(reader, writer))
            working.add(task)
            task.add_done_callback(working.discard)

        server = self.loop.run_until_complete(
            asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20, ssl=self._context)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self.loop.run_forever()
        server.close()
        self.loop.run_until_complete(self._end(working))
        self.loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.serve(reader, writer)
        writer.close()
        self._writers.discard(writer)

    async def _end(self, working: set[asyncio.Task[None]]) -> None:
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # lets the transports say goodbye
        await asyncio.sleep(0)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset instead of in order."""
    end: Any = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()
