"""A dedicated connection to Redis on which no command is ever sent twice.

A client of redis-py repeats a command when the connection breaks. That must not happen to a command that delivers
entries: if Redis has executed the first attempt and its response was lost, the entries are pending for a consumer
that does not know of them. On a dedicated connection the caller sees the error, and reads its pending entries.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, cast

import redis.exceptions

from ordersync_consumer.server_state import is_full, is_lost, is_of_role, is_passing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection

PATIENCE = 5.0
"""Seconds without a response, beyond the time for which a command may block, after which it has failed."""
_NEVER = 86_400.0
_BROKEN = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
T = TypeVar("T")

_REFUSED = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)


def is_transient(error: Exception) -> bool:
    """True if the same call may succeed later: the server is away, starts, fails over, is busy, or full."""
    if isinstance(error, _REFUSED):
        return False
    causes = (is_full, is_of_role, is_passing, is_lost)
    return isinstance(error, _BROKEN) or any(cause(error) for cause in causes)


def packed(command: Sequence[bytes | str | float]) -> bytes:
    """Return a command in the protocol of Redis: an acknowledgement has an argument for each event."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    return b"*%d\r\n%b" % (len(parts), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]))


async def with_timeout(call: Awaitable[T]) -> T:
    """Return the result of a call, which gets `PATIENCE` seconds: the caller's client may have no timeout.

    Raises:
        TimeoutError: It took longer. Redis may have executed it.

    """
    async with asyncio.timeout(PATIENCE):
        return await call


class DedicatedConnection:
    """One connection, configured like those of a client. It connects on first use, and again after an error."""

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._connection: AbstractConnection | None = None

    async def call(self, *command: bytes | str | float, wait: float = 0.0) -> Any:
        """Return the response to a command, with strings as bytes. `wait`: seconds for which the command may block.

        Raises:
            redis.exceptions.ResponseError: The server refused the command.
            redis.exceptions.ConnectionError: No connection, or it broke. Redis may have executed the command.
            TimeoutError: No response in time. Redis may have executed the command.

        """
        try:
            async with asyncio.timeout(wait + PATIENCE):
                if self._connection is None:
                    self._connection = cast("AbstractConnection", self._pool.make_connection())  # type: ignore[no-untyped-call] # untyped in redis-py
                await self._connection.connect()  # type: ignore[no-untyped-call] # untyped in redis-py
                await self._connection.send_packed_command([packed(command)])
                # With an explicit timeout, because otherwise redis-py applies that of the socket.
                return await self._connection.read_response(disable_decoding=True, timeout=_NEVER)
        except redis.exceptions.ResponseError as error:
            if is_of_role(error):
                await self.close()
            raise
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection without waiting for the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
