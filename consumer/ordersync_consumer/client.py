"""What the kit asks of a client of redis-py, whatever its version."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, TypeVar

import redis
from redis.asyncio import ConnectionPool, SSLConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def answer(call: Awaitable[T] | T) -> T:
    """Return the answer of a command. redis-py types its commands for the blocking client as well."""
    if inspect.isawaitable(call):
        return await call
    return call


def check_host_name(pool: ConnectionPool | redis.ConnectionPool) -> None:
    """Let a pool compare the host name with the name in the certificate of the server, unless its options say no.

    redis-py does so from version 6 on.
    """
    options = pool.connection_kwargs
    if issubclass(pool.connection_class, (SSLConnection, redis.SSLConnection)):
        options.setdefault("ssl_check_hostname", options.get("ssl_cert_reqs", "required") != "none")
