"""Connections to Redis or Valkey, with a timeout for every call and retries that bridge a restart of the server."""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
import redis.exceptions
from redis.asyncio import ConnectionPool, Redis, UnixDomainSocketConnection

from ordersync_consumer.client import answer
from ordersync_consumer.redaction import redaction, words_of
from ordersync_consumer.servers.address import Kind, parse, secrets_of
from ordersync_consumer.servers.cluster import servers_of
from ordersync_consumer.servers.connect import client_of
from ordersync_consumer.servers.connection import Following
from ordersync_consumer.servers.topology import SlotUnavailable
from worker.backoff import Backoff
from worker.config.file_trust import why_foreign
from worker.config.urls import hide_password
from worker.errors import RedisUnavailable, SettingsError
from worker.redis.refusals import explain
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from worker.clock import Clock

__all__ = [
    "NO_QUEUE",
    "answer",
    "check_queue_address",
    "check_server",
    "connect",
    "pool",
    "version_of",
    "wait_until_up",
]

NO_QUEUE = (
    "The queue of arq cannot be on a cluster, because arq changes keys of several slots at once. Set "
    "ORDERSYNC_REDIS__QUEUE_URL to one server (redis://host:6379/0) or to sentinels "
    "(redis+sentinel://h1:26379,h2:26379/NAME/0). It contains only jobs, which the worker enqueues again if they are "
    "lost."
)
BACKOFF = Backoff(first=0.2, most=5.0)
"""Pause between two attempts to reach a server that does not answer yet."""
_ANSWERS = {"decode_responses": "false", "protocol": "2"}
"""Options of an address that change the type of answers, and the value with which the worker can read them."""

_objections: dict[str, Callable[[int], str]] = {}


def expect_peer(path: str, objection: Callable[[int], str]) -> None:
    """Let every connection of this process to a Unix socket be checked before anything is sent.

    Args:
        path: The socket.
        objection: Called with the number of the process that listens, as the kernel knows it; returns why it is the
            wrong one, "" if it is the right one.

    """
    _objections[path] = objection


class _Local(Following, UnixDomainSocketConnection):
    """Over a socket of this machine."""

    async def on_connect(self) -> None:
        """Check who listens, then log in."""
        objection = _objections.get(self.path)
        if objection is not None and self._writer is not None and hasattr(socket, "SO_PEERCRED"):
            pid, uid = _peer(self._writer)
            reason = "" if uid == os.geteuid() else f"user {uid} answers there, in process {pid}"
            if reason := reason or objection(pid):
                raise redis.exceptions.ConnectionError(
                    f"{self.path} does not lead to the worker's own server: {reason}. Nothing was sent to it"
                )
        await super().on_connect()


def _peer(writer: asyncio.StreamWriter) -> tuple[int, int]:
    """Return process and user of the other end of a Unix socket, when it began to listen."""
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as link:
        pid, uid, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def connect(url: str) -> Redis:
    """Return a client for `url`. It connects with the first call, and waits for a free connection instead of failing.

    Raises:
        SettingsError: The address has an option that redis-py does not know or cannot read.
        RedisUnavailable: The address has an option with which the worker cannot read any answer.

    """
    redaction.add(*secrets_of(url))
    try:
        made = client_of(parse(url), following={UnixDomainSocketConnection: _Local})
        _check_files(made.connection_pool.connection_kwargs)
    except (TypeError, ValueError, redis.exceptions.RedisError) as error:
        raise SettingsError(
            f"The Redis address {hide_password(url)} cannot be used: {words_of(error)}"
        ) from None
    for name, usable in _ANSWERS.items():
        if str(made.connection_pool.connection_kwargs.get(name, usable)).lower() not in {usable, ""}:
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
    for file in (authorities, shown, key):
        if file and (reason := why_foreign(Path(file))):
            raise ValueError(
                f"{file} is not read, because {reason}. Correct its owner and mode: chown, chmod go-w"
            )
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


def pool(url: str) -> ConnectionPool:
    """Return the connections for arq's client, which needs one server or the master that sentinels name.

    Raises:
        SettingsError: The address cannot be used, as for `connect`, or leads to a cluster.
        RedisUnavailable: As for `connect`.

    """
    check_queue_address(url)
    return connect(url).connection_pool


def check_queue_address(url: str) -> None:
    """Raise `SettingsError` if an address leads to a cluster, which cannot hold arq's queue."""
    if parse(url).kind is Kind.CLUSTER:
        raise SettingsError(NO_QUEUE)


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
            # Of a cluster one node is enough: the accounts of others wait alone.
            await answer(client.ping())
        except (redis.exceptions.AuthenticationError, redis.exceptions.ResponseError) as error:
            raise RedisUnavailable(
                f"{shown} refuses this client: {explain(error).rstrip('.')}. Check {setting}."
            ) from None
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
            waited = clock.monotonic() - began
            if patience is not None and waited >= patience:
                raise RedisUnavailable(
                    f"{shown} cannot be reached: {words_of(error).rstrip('.')}. Check {setting}, or start the server."
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
    """Log a warning if the configuration of the server, or of a node of the cluster, would lose or evict data.

    Raises:
        RedisUnavailable: The server is older than 6.2.

    """
    for server in await servers_of(client):
        with suppress(SlotUnavailable):
            await _check_one(server, hide_password(url))


async def _check_one(client: Redis, shown: str) -> None:
    log = get_logger()
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
