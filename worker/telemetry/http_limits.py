"""Limits on the callers of the HTTP endpoint: how many connections there are, and how long each of them lives.

A new connection is never refused. If there are too many, one of the older half is closed for it, of the address with
the most connections: one that has not asked anything, otherwise the oldest. So callers that say nothing, or ask slowly,
do not keep out a probe, whose request comes with its connection and is answered within milliseconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD_SECONDS = 5.0
"""Time for a caller to send its request."""
CONNECTION_SECONDS = 15.0
"""Time from then on: to be answered, and to take the answer. aiohttp sets no limit itself."""
MAX_CONNECTIONS = 64
MAX_OF_PEER = 32
"""Connections from one address."""
MAX_STREAMS = 8
"""Connections whose answer goes on until the caller leaves."""


@dataclass(slots=True, eq=False)
class Connection:
    """One connection: the address of its caller, how it is closed, and whether it has asked for something."""

    peer: str
    transport: asyncio.Transport
    deadline: asyncio.TimerHandle | None = None
    has_asked: bool = False
    streams: bool = False


def one_too_many(connections: Iterable[Connection], most: int, most_of_peer: int) -> Connection | None:
    """Return the connection to close, among those in the order of their age; None while there are not too many."""
    kept = list(connections)
    if not kept:
        return None
    ((peer, count),) = Counter(one.peer for one in kept).most_common(1)
    if len(kept) <= most and count <= most_of_peer:
        return None
    of_peer = [one for one in kept if one.peer == peer]
    older = of_peer[: (len(of_peer) + 1) // 2]
    return next((one for one in older if not one.has_asked), older[0])


class Connections:
    """The connections of the endpoint, oldest first."""

    def __init__(self) -> None:
        self._kept: dict[object, Connection] = {}

    def add(self, key: object, transport: asyncio.Transport) -> None:
        """Add a new connection. Close it if its request takes too long, and close another one if there are too many."""
        name = transport.get_extra_info("peername")
        connection = Connection(str(name[0]) if name else "", transport)
        connection.deadline = _close_in(HEAD_SECONDS, transport)
        self._kept[key] = connection
        victim = one_too_many(self._kept.values(), MAX_CONNECTIONS, MAX_OF_PEER)
        if victim is not None:
            victim.transport.abort()
            self.remove(next(key for key, one in self._kept.items() if one is victim))

    def asked(self, key: object) -> None:
        """Note that the request of a connection has come, so that the time for the answer begins."""
        if connection := self._kept.get(key):
            connection.has_asked = True
            _cancel(connection)
            connection.deadline = _close_in(CONNECTION_SECONDS, connection.transport)

    def stream(self, key: object) -> bool:
        """Let the answer of a connection go on without an end. False if there are too many such answers already."""
        connection = self._kept.get(key)
        if connection is None or sum(one.streams for one in self._kept.values()) >= MAX_STREAMS:
            return False
        connection.streams = True
        _cancel(connection)
        return True

    def remove(self, key: object) -> None:
        """Forget a connection."""
        if connection := self._kept.pop(key, None):
            _cancel(connection)


def _close_in(seconds: float, transport: asyncio.Transport) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, transport.abort)


def _cancel(connection: Connection) -> None:
    if connection.deadline:
        connection.deadline.cancel()
        connection.deadline = None
