"""Connections to Redis or Valkey: timeouts on every call, retries where the server restarts."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

import redis.exceptions
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from worker.errors import RedisUnavailable
from worker.logs import get_logger
from worker.settings import hide_password

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from worker.clock import Clock

SOCKET_TIMEOUT = 10.0
"""Seconds without an answer until a call has failed. Without it a black-holed connection hangs for good."""
CONNECT_TIMEOUT = 5.0
_RETRIED = [redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError]

T = TypeVar("T")


async def answer(call: Awaitable[T] | T) -> T:
    """The answer of a command. redis-py types its commands for the blocking client as well."""
    if inspect.isawaitable(call):
        return await call
    return call


def _options() -> dict[str, Any]:
    return {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 15,
        # A restart takes a moment and a retry bridges it. OSError is in the list because redis-py lets a
        # refused connection out as one.
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries=3),
        "retry_on_error": _RETRIED,
    }


def pool(url: str, *, max_connections: int = 32) -> ConnectionPool:
    """A pool that waits for a free connection instead of failing. arq's client takes one as well."""
    options = _options()
    if url.startswith("unix"):
        options.pop("socket_keepalive")
    return BlockingConnectionPool.from_url(url, max_connections=max_connections, timeout=20, **options)


def connect(url: str) -> Redis:
    """A client for `url`. It does not connect before the first call."""
    return Redis.from_pool(pool(url))


async def wait_until_up(
    client: Redis,
    url: str,
    clock: Clock,
    *,
    patience: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Wait until the server answers, with backoff, and say what is waited for.

    `patience`: seconds after which to give up; None waits for ever (until `stop()` is true).

    Raises:
        RedisUnavailable: It did not answer in time, or it refuses this client.

    """
    log, shown = get_logger(), hide_password(url)
    began, pause, said = clock.monotonic(), 0.2, 0.0
    while not stop():
        try:
            await client.ping()
        except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError) as error:
            raise RedisUnavailable(
                f"{shown} refuses this user: {error}. Check ORDERSYNC_REDIS__URL."
            ) from None
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
            waited = clock.monotonic() - began
            if patience is not None and waited >= patience:
                raise RedisUnavailable(
                    f"{shown} cannot be reached: {error}. Check ORDERSYNC_REDIS__URL, or start the server."
                ) from None
            if waited >= said:
                log.warning("waiting_for_redis", url=shown, waited_s=round(waited, 1), error=str(error))
                said = waited + 10
            await clock.sleep(clock.uniform(pause / 2, pause))
            pause = min(pause * 2, 5.0)
        else:
            return


async def check_server(client: Redis, url: str) -> None:
    """Warn of a server that would lose or drop what is written to it.

    Raises:
        RedisUnavailable: The server is older than 6.2.

    """
    log, shown = get_logger(), hide_password(url)
    version = str((await client.info("server")).get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < (6, 2):
        raise RedisUnavailable(f"{shown} is version {version}; Redis 6.2 or newer, or Valkey, is needed.")
    try:
        policy = (await client.config_get("maxmemory-policy")).get("maxmemory-policy", "noeviction")
        appendonly = (await client.config_get("appendonly")).get("appendonly", "yes")
        listpack = await client.config_get("hash-max-listpack-value")
    except redis.exceptions.ResponseError:
        log.info(
            "redis_config_hidden", url=shown, advice="check maxmemory-policy noeviction and appendonly yes"
        )
        return
    if policy != "noeviction":
        log.warning(
            "redis_may_evict", url=shown, policy=policy, advice="CONFIG SET maxmemory-policy noeviction"
        )
    if appendonly != "yes":
        log.warning(
            "redis_not_durable",
            url=shown,
            advice="CONFIG SET appendonly yes; a crash of Redis loses events back to its last snapshot",
        )
    if int(listpack.get("hash-max-listpack-value", 256)) < 256:
        log.info(
            "redis_uses_more_memory",
            url=shown,
            advice="CONFIG SET hash-max-listpack-value 256 halves the memory for each tracked record",
        )
