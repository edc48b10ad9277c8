"""Connections to Redis or Valkey, with a timeout for every call and retries that bridge a restart of the server."""

from __future__ import annotations

import asyncio
import inspect
import re
import ssl
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import redis
import redis.exceptions
from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from worker.backoff import Backoff
from worker.config.settings import hide_password
from worker.errors import RedisUnavailable, SettingsError
from worker.redis.refusals import explain
from ordersync_consumer.server_state import is_lost, is_of_role
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from worker.clock import Clock

SOCKET_TIMEOUT = 10.0
"""Seconds without an answer until a call fails. Without this timeout a black-holed connection hangs for ever."""
CONNECT_TIMEOUT = 5.0
RETRY_SECONDS = 5.0
"""Seconds after its start during which a failed call is retried: enough for a restart of the server."""
BACKOFF = Backoff(first=0.2, most=5.0)
"""Pause between two attempts to reach a server that does not answer yet."""
_RETRIED = [redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError]
_ANSWERS = {"decode_responses": "false", "protocol": "2"}
"""Options of an address that change the type of answers, and the value with which the worker can read them."""

T = TypeVar("T")
_retrying = ContextVar("_retrying", default=False)


class BoundedRetry(Retry):
    """Retries the outermost call only, for at most `RETRY_SECONDS`.

    redis-py 5 retries a command, within it the connection, and within that the health check and the handshake. Three
    retries become 4 x 4 x 4 attempts, and a server that accepts a connection but never answers blocks a call for
    minutes.
    """

    async def call_with_retry(
        self, do: Callable[[], Awaitable[T]], fail: Callable[[redis.exceptions.RedisError], Any]
    ) -> T:
        """Return the result of `do`; await `fail` after each failure."""
        nested, began, failures = _retrying.get(), time.monotonic(), 0
        token = _retrying.set(True)
        try:
            while True:
                try:
                    return await do()
                except self._supported_errors as error:
                    failures += 1
                    await fail(error)
                    if nested or failures > self._retries or time.monotonic() - began > RETRY_SECONDS:
                        raise
                    await asyncio.sleep(self._backoff.compute(failures))
        finally:
            _retrying.reset(token)


async def answer(call: Awaitable[T] | T) -> T:
    """Return the answer of a command. redis-py types its commands for the blocking client as well."""
    if inspect.isawaitable(call):
        return await call
    return call


class _Following(AbstractConnection):
    """A connection that is given up, and made anew, when its server cannot do its part: after a failover, above all.

    Both then are a lost connection to the caller, so a command, a pipeline or a script is repeated like after a reset.
    A server that is a replica has executed no write of them.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            if not is_lost(error):
                raise
            raise redis.exceptions.ConnectionError(f"The connection was reset: {error}") from None

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)
        except redis.exceptions.ResponseError as error:
            if not is_of_role(error):
                raise
            await self.disconnect(nowait=True)
            raise redis.exceptions.ConnectionError(f"The server cannot execute this now: {error}") from None


class _Plain(_Following, Connection):
    """Over TCP."""


class _Encrypted(_Following, SSLConnection):
    """Over TLS."""


class _Local(_Following, UnixDomainSocketConnection):
    """Over a socket of this machine."""


_FOLLOWING = {Connection: _Plain, SSLConnection: _Encrypted, UnixDomainSocketConnection: _Local}


def _options() -> dict[str, Any]:
    return {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 15,
        # A restart takes a moment and a retry bridges it. OSError is in the list because redis-py lets a
        # refused connection out as one.
        "retry": BoundedRetry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries=3),
        "retry_on_error": _RETRIED,
    }


def check_host_name(pool: ConnectionPool | redis.ConnectionPool) -> None:
    """Let a pool compare the host name with the name in the certificate of the server, unless its options say no.

    redis-py does so from version 6 on; arq needs version 5.
    """
    options = pool.connection_kwargs
    if issubclass(pool.connection_class, (SSLConnection, redis.SSLConnection)):
        options.setdefault("ssl_check_hostname", options.get("ssl_cert_reqs", "required") != "none")


def pool(url: str, *, max_connections: int = 32) -> ConnectionPool:
    """Return a pool that waits for a free connection instead of failing. arq's client uses one as well.

    Raises:
        SettingsError: The address has an option that redis-py does not know or cannot read.
        RedisUnavailable: The address has an option with which the worker cannot read any answer.

    """
    options = _options()
    if url.startswith("unix"):
        options.pop("socket_keepalive")
    try:
        made = BlockingConnectionPool.from_url(url, max_connections=max_connections, timeout=20, **options)
        made.connection_class = _FOLLOWING[made.connection_class]
        check_host_name(made)
        made.connection_class(**made.connection_kwargs)  # does not connect, but checks the options
        _check_files(made.connection_kwargs)
    except (TypeError, ValueError, redis.exceptions.RedisError) as error:
        raise SettingsError(f"The Redis address {hide_password(url)} cannot be used: {error}") from None
    for name, usable in _ANSWERS.items():
        if str(made.connection_kwargs.get(name, usable)).lower() not in {usable, ""}:
            raise RedisUnavailable(
                f"The Redis address {hide_password(url)} cannot be used: the worker cannot read answers with the "
                f"option {name}. Remove it from the address."
            )
    return made


def _check_files(options: Mapping[str, Any]) -> None:
    """Raise `ValueError` if a file of certificates cannot be used: redis-py would report a server that is away."""
    authorities, shown, key = (options.get(name) for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"))
    if not (authorities or shown):
        return
    context = ssl.create_default_context()
    try:
        if authorities:
            context.load_verify_locations(authorities)
        if shown:
            # Without a password OpenSSL would ask for one at the terminal, and wait.
            context.load_cert_chain(shown, key, password="")
    except (OSError, ssl.SSLError) as error:
        names = " or ".join(str(name) for name in (authorities, shown, key) if name)
        raise ValueError(f"{names} is not a usable certificate or key: {error.strerror or error}") from None


def connect(url: str) -> Redis:
    """Return a client for `url`. It connects with the first call."""
    return Redis.from_pool(pool(url))


async def wait_until_up(
    client: Redis,
    url: str,
    clock: Clock,
    *,
    patience: float | None = None,
    setting: str = "ORDERSYNC_REDIS__URL",
) -> None:
    """Wait until the server answers, with backoff, and log the wait.

    Args:
        client: The client to try.
        url: Its address, for messages.
        clock: The clock.
        patience: Seconds after which to give up; None waits for ever.
        setting: The setting that holds the address, for messages.

    Raises:
        RedisUnavailable: The server did not answer in time, or refuses this client.

    """
    log, shown = get_logger(), hide_password(url)
    began, failures, said = clock.monotonic(), 0, 0.0
    while True:
        try:
            await client.ping()
        except (redis.exceptions.AuthenticationError, redis.exceptions.ResponseError) as error:
            raise RedisUnavailable(
                f"{shown} refuses this client: {explain(error).rstrip('.')}. Check {setting}."
            ) from None
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
            waited = clock.monotonic() - began
            if patience is not None and waited >= patience:
                raise RedisUnavailable(
                    f"{shown} cannot be reached: {str(error).rstrip('.')}. Check {setting}, or start the server."
                ) from None
            if waited >= said:
                log.warning("waiting_for_redis", url=shown, waited_s=round(waited, 1), error=str(error))
                said = waited + 10
            failures += 1
            await clock.sleep(BACKOFF.pause(failures, clock))
        else:
            return


def version_of(facts: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return major and minor version of a server by its INFO. Valkey reports the Redis version that it equals."""
    parts = re.match(r"([0-9]+)\.([0-9]+)", str(facts.get("redis_version", "")))
    return (int(parts[1]), int(parts[2])) if parts else None


async def check_server(client: Redis, url: str) -> None:
    """Log a warning if the configuration of the server would lose or evict data.

    Raises:
        RedisUnavailable: The server is older than 6.2.

    """
    log, shown = get_logger(), hide_password(url)
    try:
        facts = await client.info()
    except redis.exceptions.ResponseError:
        log.info(
            "redis_config_hidden",
            url=shown,
            advice="Check that the server has maxmemory-policy noeviction and appendonly yes.",
        )
        return
    version = version_of(facts)
    if version is not None and version < (6, 2):
        raise RedisUnavailable(
            f"{shown} is version {facts['redis_version']}. Use Redis 6.2 or newer, or Valkey."
        )
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        log.warning(
            "redis_may_evict", url=shown, policy=policy, advice="Run CONFIG SET maxmemory-policy noeviction."
        )
    if not facts.get("aof_enabled", 1):
        log.warning(
            "redis_not_durable",
            url=shown,
            advice="Run CONFIG SET appendonly yes. A crash of Redis loses all events since its last snapshot.",
        )
    try:
        listpack = await client.config_get("hash-max-listpack-value")
    except redis.exceptions.ResponseError:
        return  # the user of this client may not read the configuration
    if int(listpack.get("hash-max-listpack-value", 256)) < 256:
        log.info(
            "redis_uses_more_memory",
            url=shown,
            advice="Run CONFIG SET hash-max-listpack-value 256 to halve the memory of each tracked record.",
        )
