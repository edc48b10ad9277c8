"""Clients for addresses of every kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis.exceptions
from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    Redis,
    RedisCluster,
    SSLConnection,
)

from ordersync_consumer.client import check_host_name
from ordersync_consumer.errors import SettingsError
from ordersync_consumer.redaction import redaction, words_of
from ordersync_consumer.servers import connection as connections
from ordersync_consumer.servers.address import Address, Kind, parse, secrets_of
from ordersync_consumer.servers.cluster import ClusterClient
from ordersync_consumer.servers.sentinel import Master
from ordersync_consumer.servers.slots import NodeConnections, SlotPool, ToSlot, ToSlotEncrypted
from ordersync_consumer.servers.topology import Topology

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from ordersync_consumer.servers.connection import Route

_OF_CLUSTER = frozenset({
    "connection_class", "health_check_interval", "max_connections", "parser_class", "redis_connect_func",
    "response_callbacks", "retry", "host", "port",
})  # fmt: skip
"""Options of redis-py's client of a cluster that are not those of a connection, or that this one sets itself."""
WAIT_SECONDS = 20
"""Seconds that a command waits for a free connection."""
FOLLOWING: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: connections.Plain,
    SSLConnection: connections.Encrypted,
}


def connect(url: str, *, max_connections: int = 32) -> Redis:
    """Return a client for an address. It connects with the first call, and follows a failover.

    Args:
        url: `redis://`, `rediss://` or `unix://` for one server; `redis+sentinel://h1:p1,h2:p2/NAME/DB` for the master
            that sentinels name; `redis+cluster://h1:p1,h2:p2` for a cluster. `rediss+...` encrypts.
        max_connections: Connections at most; a command waits for a free one.

    Raises:
        SettingsError: The address cannot be used.

    """
    redaction.add(*secrets_of(url))
    try:
        return client_of(parse(url), max_connections=max_connections)
    except (TypeError, ValueError, redis.exceptions.RedisError) as error:
        raise SettingsError(f"The Redis address cannot be used: {words_of(error)}.") from None


def client_of(
    address: Address,
    *,
    max_connections: int = 32,
    following: dict[type[AbstractConnection], type[AbstractConnection]] | None = None,
) -> Redis:
    """Return a client for a parsed address. Arguments and errors are those of `pool_of`."""
    made = pool_of(address, max_connections=max_connections, following=following)
    if address.kind is not Kind.CLUSTER:
        return Redis.from_pool(made)
    options: dict[str, Any] = {
        name: value for name, value in made.connection_kwargs.items() if name not in {"host", "port"}
    }
    asked: dict[str, Any] = {name: options[name] for name in ("username", "password") if name in options}
    if address.is_encrypted:
        asked |= {"ssl": True, **tls_options(options)}
    kind = ToSlotEncrypted if address.is_encrypted else ToSlot
    return ClusterClient(NodeConnections(Topology(address.hosts, asked), kind, options, most=max_connections))


def pool_of(
    address: Address,
    *,
    max_connections: int = 32,
    following: dict[type[AbstractConnection], type[AbstractConnection]] | None = None,
) -> ConnectionPool:
    """Return a pool that waits for a free connection instead of failing. It is not for a cluster.

    Args:
        address: Where it leads to.
        max_connections: Connections at most.
        following: The class that takes the place of each class of redis-py.

    Raises:
        TypeError, ValueError, RedisError: The address has an option that redis-py does not know or cannot read.

    """
    options = connections.options()
    if address.plain.startswith("unix"):
        options.pop("socket_keepalive")
    made = BlockingConnectionPool.from_url(
        address.plain, max_connections=max_connections, timeout=WAIT_SECONDS, **options
    )
    check_host_name(made)
    if address.kind is Kind.SENTINEL:
        made.connection_kwargs["route"] = Master(address, tls_options(made.connection_kwargs))
        made.connection_class = (
            connections.ToMasterEncrypted if address.is_encrypted else connections.ToMaster
        )
    else:
        classes = {**FOLLOWING, **(following or {})}
        made.connection_class = classes.get(made.connection_class, made.connection_class)
    made.connection_class(**made.connection_kwargs)  # does not connect, but checks the options
    return made


def like(client: RedisCluster) -> ClusterClient:
    """Return a client of the same cluster, with the login, the timeouts and the certificates of one of redis-py.

    It has connections of its own, so the caller closes it.
    """
    given = client.connection_kwargs
    options = connections.options() | {
        name: value
        for name, value in given.items()
        if value is not None and name not in _OF_CLUSTER and not name.startswith("socket_keepalive")
    }
    is_encrypted = issubclass(given["connection_class"], SSLConnection)
    asked: dict[str, Any] = {name: options[name] for name in ("username", "password") if name in options}
    if is_encrypted:
        asked |= {"ssl": True, **tls_options(options)}
    manager = client.nodes_manager
    nodes = {**manager.startup_nodes, **manager.nodes_cache}.values()  # the latter once it is connected
    topology = Topology([(node.host, int(node.port)) for node in nodes], asked)
    kind = ToSlotEncrypted if is_encrypted else ToSlot
    return ClusterClient(NodeConnections(topology, kind, options, most=32))


def failovers_of(client: Redis) -> int:
    """Return how often the server that a client leads to was replaced by another one, as far as this process knows.

    0 for an address of one server: what happens behind it cannot be seen.
    """
    pool = client.connection_pool
    if isinstance(pool, SlotPool):
        return pool.failovers
    route: Route | None = pool.connection_kwargs.get("route")
    return route.failovers if route is not None else 0


def tls_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options for TLS among those of a connection."""
    return {name: value for name, value in options.items() if name.startswith("ssl_")}
