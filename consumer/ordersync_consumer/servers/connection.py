"""Connections that follow a failover, and retries that bridge a restart."""

from __future__ import annotations

import asyncio
import random
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import redis.exceptions
from redis.asyncio import Connection, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import AbstractBackoff

from ordersync_consumer.redaction import words_of
from ordersync_consumer.server_state import is_lost, is_of_role, is_passing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

SOCKET_TIMEOUT = 10.0
"""Seconds without an answer until a call fails. Without this timeout a black-holed connection hangs for ever."""
CONNECT_TIMEOUT = 5.0
RETRY_SECONDS = 5.0
"""Seconds after its start during which a failed call is retried: enough for a restart of the server."""
_BINARY = frozenset({bytes, memoryview})
_FIRST_SECONDS, _MOST_SECONDS = 0.05, 1.0

T = TypeVar("T")
_retrying = ContextVar("_retrying", default=False)


class _Jitter(AbstractBackoff):
    """Waits up to twice as long after each failure. redis-py has such a class from version 5.3 on."""

    def reset(self) -> None:
        """Do nothing: the number of failures says all."""

    def compute(self, failures: int) -> float:
        """Return the seconds to wait."""
        return random.uniform(0, min(_MOST_SECONDS, _FIRST_SECONDS * 2.0**failures))  # noqa: S311 - no secret


class BoundedRetry(Retry):
    """Retries the outermost call only, for at most `RETRY_SECONDS`.

    redis-py 5 retries a command, within it the connection, and within that the health check and the handshake. Three
    retries become 4 x 4 x 4 attempts, and a server that accepts a connection but never answers blocks a call for
    minutes.
    """

    async def call_with_retry(
        self,
        do: Callable[[], Awaitable[T]],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        """Return the result of `do`; await `fail` after each failure. redis-py 7 passes the last two arguments."""
        nested, began, failures = _retrying.get(), time.monotonic(), 0
        token = _retrying.set(True)
        try:
            while True:
                try:
                    return await do()
                except self._supported_errors as error:
                    if is_retryable is not None and not is_retryable(error):
                        raise
                    failures += 1
                    await (fail(error, failures) if with_failure_count else fail(error))
                    if nested or failures > self._retries or time.monotonic() - began > RETRY_SECONDS:
                        raise
                    await asyncio.sleep(self._backoff.compute(failures))
        finally:
            _retrying.reset(token)


def options() -> dict[str, Any]:
    """Return the options of every connection: a timeout for each call, and retries."""
    return {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 15,
        # A restart takes a moment and a retry bridges it. OSError is in the list because redis-py lets a
        # refused connection out as one.
        "retry": BoundedRetry(_Jitter(), retries=3),
        "retry_on_error": [redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError],
    }


class Following(AbstractConnection):
    """A connection that is closed, and opened again, when its server cannot do its part: above all after a failover.

    Both then are a lost connection to the caller, so a command, a pipeline or a script is repeated like after a reset.
    A server that is a replica has executed no write of them.
    """

    def pack_command(self, *words: Any) -> list[bytes]:
        """Return a command as it is sent, in one piece: redis-py copies the whole buffer for each argument."""
        name, encode = words[0].encode() if isinstance(words[0], str) else words[0], self.encoder.encode
        encoded = [*name.split(), *words[1:]]  # such as `SCRIPT LOAD`
        pieces = [b"*%d\r\n" % len(encoded)]
        for given in encoded:
            word = given if type(given) in _BINARY else encode(given)  # type: ignore[no-untyped-call] # untyped in redis-py
            pieces += (b"$%d\r\n" % len(word), word, b"\r\n")
        return [b"".join(pieces)]

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Send a command before other tasks have their turn, so that the server works on it while they do.

        redis-py writes it in a task of its own, before Python 3.12. A reset that uvloop reports as RuntimeError is a
        lost connection.
        """
        try:
            if not self.is_connected:
                await self.connect()  # type: ignore[no-untyped-call] # untyped in redis-py
            elif check_health:
                await self.check_health()  # type: ignore[no-untyped-call] # untyped in redis-py
            if self._writer is not None:
                words = command.encode() if isinstance(command, str) else command
                self._writer.writelines([words] if isinstance(words, bytes) else words)
                if not self._writer.transport.get_write_buffer_size():
                    return
            await super().send_packed_command((), check_health=False)
        except RuntimeError as error:
            await self.disconnect(nowait=True)
            if not is_lost(error):
                raise
            raise redis.exceptions.ConnectionError(f"The connection was reset: {words_of(error)}") from None

    async def _send_ping(self) -> None:
        """Check the connection before a command. A server whose disk is full refuses this, and still answers reads."""
        try:
            await super()._send_ping()  # type: ignore[no-untyped-call] # untyped in redis-py
        except redis.exceptions.ResponseError as error:
            if not is_passing(error):
                raise

    async def read_response(self, *arguments: Any, **named: Any) -> Any:
        """Return an answer. One that tells of the state of the server, and not of the command, is a lost connection."""
        try:
            return await super().read_response(*arguments, **named)
        except redis.exceptions.ResponseError as error:
            if not is_of_role(error):
                raise
            await self.disconnect(nowait=True)
            raise redis.exceptions.ConnectionError(
                f"The server cannot execute this now: {words_of(error)}"
            ) from None


class Plain(Following, Connection):
    """Over TCP."""


class Encrypted(Following, SSLConnection):
    """Over TLS."""


class Route(Protocol):
    """Finds the server that a connection has to lead to. `failovers`: how often another one took its place."""

    failovers: int

    async def find(self) -> tuple[str, int]:
        """Return host and port.

        Raises:
            redis.exceptions.ConnectionError: There is no such server now.

        """


class ToMaster(Following, Connection):
    """A connection to the master that sentinels name. It asks them each time it is made.

    `route` is an option of the connection, as host and port are of others.
    """

    def __init__(self, *, route: Route, **named: Any) -> None:
        super().__init__(**named)
        self._route = route

    async def _connect(self) -> None:
        self.host, self.port = await self._route.find()
        await super()._connect()  # type: ignore[no-untyped-call] # untyped in redis-py

    async def on_connect(self) -> None:
        """Log in, then check that the server knows to be the master: sentinels may not have noticed yet."""
        await super().on_connect()
        await self.send_command("ROLE", check_health=False)
        try:
            role = cast("list[bytes]", await self.read_response(disable_decoding=True))
        except redis.exceptions.NoPermissionError:
            return  # a write would be refused
        if role[0] != b"master":
            raise redis.exceptions.ConnectionError(
                f"{self.host}:{self.port} is not the master any more, and the sentinels name no other yet"
            )


class ToMasterEncrypted(ToMaster, SSLConnection):
    """The same over TLS."""
