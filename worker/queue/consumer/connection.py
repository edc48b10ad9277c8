"""A connection of one's own to Redis, on which no command is ever sent twice.

A client of redis-py sends a command again when the connection breaks. To take entries out of a stream is no
such command: the first attempt may have been done, its answer lost, and its entries would lie in the hands of a
consumer that does not know of them. On a line the caller sees the error, and looks what it has been given.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, cast

import redis.exceptions

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection
    from redis.commands.core import AsyncScript

PATIENCE = 5.0
"""Seconds without an answer, beyond those that a command may wait by itself, until it has failed."""
_NEVER = 86_400.0
_PASSING = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED", "BUSY ")
_BROKEN = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
T = TypeVar("T")

_REFUSED = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later: the server is away, starts, fails over, is busy, or full."""
    if isinstance(error, _REFUSED):
        return False
    if isinstance(error, redis.exceptions.ResponseError):
        # redis-py cuts the code off where it has a class for it; Redis 6.2 puts words before that of a script.
        known = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)
        words = str(error)
        return isinstance(error, known) or words.startswith(_PASSING) or "OOM command not allowed" in words
    return isinstance(error, _BROKEN)


async def with_timeout(call: Awaitable[T]) -> T:
    """The result of a call, within `PATIENCE`: the client of somebody else may wait for ever.

    Raises:
        TimeoutError: It took longer; what was sent may be done.

    """
    async with asyncio.timeout(PATIENCE):
        return await call


class DedicatedConnection:
    """One connection like those of a client. It connects when it is first used, and again after an error."""

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._connection: AbstractConnection | None = None

    async def call(self, *words: bytes | str | float, wait: float = 0.0) -> Any:
        """The answer to a command, texts as bytes. `wait`: seconds that the command itself may block.

        Raises:
            redis.exceptions.ResponseError: The server refuses the command.
            redis.exceptions.ConnectionError: There is no connection, or it broke; what was sent may be done.
            TimeoutError: No answer in time; what was sent may be done.

        """
        try:
            async with asyncio.timeout(wait + PATIENCE):
                if self._connection is None:
                    self._connection = cast("AbstractConnection", self._pool.make_connection())  # type: ignore[no-untyped-call]
                await self._connection.connect()  # type: ignore[no-untyped-call]
                await self._connection.send_command(*words)
                # Without a time limit of its own: redis-py takes that of the socket for a normal answer.
                return await self._connection.read_response(disable_decoding=True, timeout=_NEVER)
        except redis.exceptions.ResponseError:
            raise
        except BaseException:
            await self.close()
            raise

    async def script(self, script: AsyncScript, keys: list[str], words: list[Any]) -> Any:
        """The answer of a script."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *words)
        except redis.exceptions.NoScriptError:
            await self.call("SCRIPT", "LOAD", str(script.script))
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *words)

    async def close(self) -> None:
        """Let go of the connection, without waiting for the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
