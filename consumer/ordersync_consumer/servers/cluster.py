"""A client of a cluster that sends each command to the node that has its key.

redis-py's own `RedisCluster` has no transactions before its version 6, no connection that belongs to one caller, and
takes all of its connections down when one node fails. This client has redis-py's commands, pipelines and scripts on
connections of its own; `at` returns an ordinary client for the keys of one slot, as those of an account are.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import redis
import redis.exceptions
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.client import Pipeline
from redis.crc import key_slot

from ordersync_consumer.errors import SettingsError
from ordersync_consumer.servers.slots import NodeConnections, SlotPool
from ordersync_consumer.servers.topology import SlotUnavailable, name_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Command = tuple[Any, ...]

_HOME = 0
"""The slot whose node executes commands without a key, so that every process asks the same one what time it is."""
_ANYWHERE = frozenset({"INFO", "PING", "TIME"})
"""Commands without a key that the next node executes while that one is away."""
_SCRIPTS = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"})
_READS = frozenset({"XREAD", "XREADGROUP"})
_KEYLESS = frozenset({
    "ACL", "AUTH", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "ECHO", "FUNCTION", "HELLO", "INFO", "LATENCY", "PING",
    "ROLE", "SCRIPT", "SLOWLOG", "TIME", "WAIT",
})  # fmt: skip
_ONE_SERVER = frozenset({"SCAN", "KEYS", "DBSIZE", "FLUSHALL", "FLUSHDB", "RANDOMKEY"})
_WITH_KIND = frozenset({"XINFO", "XGROUP", "OBJECT", "MEMORY"})
_UNSENT = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
_AT_ONCE = 16
"""Pipelines that are sent at a time."""


def slot_of(key: str | bytes) -> int:
    """Return the slot of a key."""
    return int(key_slot(key.encode() if isinstance(key, str) else key))


def key_of(command: Sequence[Any]) -> str | bytes | None:
    """Return the first key of a command; None for a command without one.

    Raises:
        TypeError: It concerns all keys of one server.

    """
    name, *more = _text(command[0]).upper().split()
    if name in _ONE_SERVER:
        raise TypeError(f"{name} concerns one server: ask each one of servers_of(client)")
    key: str | bytes | None = None
    if name in _SCRIPTS:
        key = command[3] if int(command[2]) else None
    elif name in _READS:
        words = [_text(word).upper() for word in command]
        key = command[words.index("STREAMS") + 1]
    elif name not in _KEYLESS:
        at = 2 if name in _WITH_KIND and not more else 1
        key = command[at] if len(command) > at else None
    return key


def _text(word: Any) -> str:
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)


class ClusterClient(Redis):
    """The client. A command with keys of several slots is refused by the server."""

    def __init__(self, connections: NodeConnections) -> None:
        super().__init__(connection_pool=SlotPool(connections, _HOME))
        self.auto_close_connection_pool = True  # with this client, and not with those of `at`
        self._connections, self._clients = connections, dict[int, Redis]()

    def at(self, key: str | bytes) -> Redis:
        """Return a client for the keys of one slot; also commands without a key go to the node that serves it."""
        return self._of_slot(slot_of(key))

    async def servers(self) -> list[Redis]:
        """Return a client for each master that serves a slot, also for one that does not answer."""
        slots = await self._connections.topology.slots_of_masters()
        return [self._of_slot(slot) for slot in slots]

    def _of_slot(self, slot: int) -> Redis:
        client = self._clients.get(slot)
        if client is None:
            client = self._clients[slot] = Redis(connection_pool=SlotPool(self._connections, slot))
            client.response_callbacks = self.response_callbacks  # which are large
        return client

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command where its key is.

        Raises:
            SlotUnavailable: The node of its key is away.

        """
        if _text(args[0]).upper() == "SCRIPT LOAD":
            return await self._on_all(*args, **options)
        key = key_of(args)
        if key is not None:
            return await self._of_slot(slot_of(key)).execute_command(*args, **options)  # type: ignore[no-untyped-call] # untyped in redis-py
        try:
            return await self._of_slot(_HOME).execute_command(*args, **options)  # type: ignore[no-untyped-call] # untyped in redis-py
        except SlotUnavailable:
            if _text(args[0]).upper() not in _ANYWHERE:
                raise
            for server in await self.servers():
                try:
                    return await server.execute_command(*args, **options)  # type: ignore[no-untyped-call] # untyped in redis-py
                except SlotUnavailable:
                    continue
            raise

    async def _on_all(self, *args: Any, **options: Any) -> Any:
        """Execute a command on every master. One that is away learns the script when it refuses to run it."""
        servers: list[Any] = await self.servers()
        calls = [client.execute_command(*args, **options) for client in servers]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        failed = [item for item in answers if isinstance(item, BaseException)]
        if len(failed) == len(answers):
            raise failed[0]
        return next(item for item in answers if not isinstance(item, BaseException))

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Return a pipeline. The keys of a transaction have one slot; other commands go to several nodes at once."""
        del shard_hint
        return _ClusterPipeline(self._connections, self.response_callbacks, transaction=transaction)


class _ClusterPipeline(Pipeline):
    """A pipeline that is sent in parts, one for each node."""

    def __init__(self, connections: NodeConnections, callbacks: Any, *, transaction: bool) -> None:
        super().__init__(SlotPool(connections, _HOME), callbacks, transaction, None)
        self._connections = connections

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Return the answers in the order of the commands.

        Without `raise_on_error` the answer of a command whose node is away is the error, unless all are away.
        """
        stack = list(self.command_stack)
        result: list[Any] = [None] * len(stack)
        slots: dict[int, list[int]] = {}
        for at, (args, _) in enumerate(stack):
            key = key_of(args)
            slots.setdefault(_HOME if key is None else slot_of(key), []).append(at)
        try:
            if self.is_transaction and len(slots) > 1:
                raise redis.exceptions.ResponseError("CROSSSLOT Keys of a transaction have several slots")
            limit = asyncio.Semaphore(_AT_ONCE)

            async def send(part: dict[int, list[int]]) -> None:
                async with limit:
                    for at, answer in await self._send(stack, part, raise_on_error=raise_on_error):
                        result[at] = answer

            await asyncio.gather(*map(send, await self._by_node(slots)))
        finally:
            await self.reset()  # type: ignore[no-untyped-call] # untyped in redis-py
        failed = [item for item in result if isinstance(item, _UNSENT)]
        if failed and (raise_on_error or len(failed) == len(result)):
            raise failed[0]
        return result

    async def _by_node(self, slots: Mapping[int, list[int]]) -> list[dict[int, list[int]]]:
        """Return the positions of the commands by slot, apart for each node, and for each slot that no node serves."""
        parts: dict[tuple[str, int], dict[int, list[int]]] = {}
        for slot, positions in slots.items():
            try:
                node = await self._connections.topology.node_of(slot)
            except SlotUnavailable:
                node = "", slot
            parts.setdefault(node, {})[slot] = positions
        return list(parts.values())

    async def _send(
        self, stack: Sequence[Any], part: dict[int, list[int]], *, raise_on_error: bool
    ) -> list[tuple[int, Any]]:
        """Send the commands of one node; each slot alone if the node does not have all of them any more.

        The answers of what could not be sent are the errors.
        """
        try:
            return await self._send_once(stack, part, raise_on_error=raise_on_error)
        except _UNSENT as error:
            is_split = isinstance(error, SlotUnavailable) and error.is_moving
            apart = [{slot: part[slot]} for slot in part] if is_split else await self._by_node(part)
            if len(apart) == 1:
                return [(at, error) for positions in part.values() for at in positions]
        return [
            item for each in apart for item in await self._send(stack, each, raise_on_error=raise_on_error)
        ]

    async def _send_once(
        self, stack: Sequence[Any], part: dict[int, list[int]], *, raise_on_error: bool
    ) -> list[tuple[int, Any]]:
        positions = sorted(at for each in part.values() for at in each)
        pool = SlotPool(self._connections, next(iter(part)), frozenset(part))
        pipe = Pipeline(pool, self.response_callbacks, self.is_transaction, None)
        pipe.command_stack, pipe.scripts = [stack[at] for at in positions], set(self.scripts)
        return list(zip(positions, await pipe.execute(raise_on_error), strict=True))


def at(client: Redis, key: str) -> Redis:
    """Return a client for the server that has a key, and all keys with the same hash tag.

    On a cluster that is one node; otherwise it is the client itself. A client for another key of a cluster will do.

    Raises:
        SettingsError: It is a client of another kind.

    """
    _check(client)
    if isinstance(client, ClusterClient):
        return client.at(key)
    pool = client.connection_pool
    if isinstance(pool, SlotPool) and pool.slot != slot_of(key):
        return Redis(connection_pool=SlotPool(pool.connections, slot_of(key)))
    return client


def _check(client: object) -> None:
    if isinstance(client, RedisCluster):
        raise SettingsError(
            "A redis.asyncio.RedisCluster cannot be used here: pass ordersync_consumer.connect('redis+cluster://...')."
        )
    if isinstance(client, redis.Redis | redis.RedisCluster):
        raise SettingsError(
            "The client is not asynchronous: pass one of redis.asyncio, or of ordersync_consumer.connect(address)."
        )


async def is_served_by(client: Redis, key: str, node: str, slot: int = -1) -> bool:
    """True if a key of a cluster is on a node, as `SlotUnavailable.node` says it; with `slot`, if it has this slot."""
    pool = client.connection_pool
    if not isinstance(pool, SlotPool) or slot not in {-1, slot_of(key)}:
        return False
    try:
        return slot >= 0 or name_of(await pool.connections.topology.node_of(slot_of(key))) == node
    except SlotUnavailable:
        return False


async def servers_of(client: Redis) -> list[Redis]:
    """Return a client for each server that holds data: each master of a cluster, otherwise the client itself.

    Raises:
        SettingsError: It is a client of another kind.

    """
    _check(client)
    return await client.servers() if isinstance(client, ClusterClient) else [client]
