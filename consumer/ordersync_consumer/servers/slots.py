"""Connections to the nodes of a cluster. Each is for one slot at a time, and finds the node that serves it."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import redis.exceptions
from redis.asyncio import Connection, ConnectionPool, SSLConnection

from ordersync_consumer.redaction import words_of
from ordersync_consumer.servers.connection import Following
from ordersync_consumer.servers.topology import SlotUnavailable, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ordersync_consumer.servers.topology import Node, Topology

WAIT_SECONDS = 20.0
"""Seconds that a command waits for a free connection."""
_BROKEN = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
_REFUSED = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)
_MOVED = re.compile(r"MOVED ([0-9]+) (\S+)")
_MOVING = re.compile(r"^ASK [0-9]+ |^TRYAGAIN|non local key in a cluster")
"""What a node says to a command, and to one of a script, with a key that was moved to another node already."""


class ToSlot(Following, Connection):
    """A connection to the node that serves `slot`.

    It looks for the node each time it is made. While a slot is being moved, part of the keys of an account is on one
    node and part on another, so no script can run: the commands are repeated until the slot is moved, as while the
    server is away.
    """

    slot = 0
    slots: frozenset[int] = frozenset()
    """The slots of the commands that are sent now, if there are several."""

    def __init__(self, *, topology: Topology, **named: Any) -> None:
        super().__init__(**named)
        self._topology = topology

    async def connect(self) -> None:
        """Connect to the node, and log in.

        Raises:
            SlotUnavailable: It does not answer, or no node serves the slot.

        """
        try:
            await super().connect()  # type: ignore[no-untyped-call] # untyped in redis-py
        except _BROKEN as error:
            raise self._unavailable(error) from None

    async def _connect(self) -> None:
        self.host, self.port = await self._topology.node_of(self.slot)
        try:
            await super()._connect()  # type: ignore[no-untyped-call] # untyped in redis-py
        except OSError:
            self._topology.forget()
            raise

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Send a command. Errors are those of `connect`."""
        try:
            await super().send_packed_command(command, check_health)
        except _BROKEN as error:
            raise self._unavailable(error) from None

    async def read_response(self, *arguments: Any, **named: Any) -> Any:
        """Return an answer. One that says that the slot is elsewhere is a lost connection."""
        try:
            return await super().read_response(*arguments, **named)
        except redis.exceptions.ResponseError as error:
            moved = _MOVED.match(str(error))
            if moved and int(moved[1]) != self.slot and int(moved[1]) not in self.slots:
                raise  # a key of another account: an error of the program
            if not moved and not _MOVING.search(str(error)):
                raise
            words = (
                f"slot {moved[1]} is on {moved[2]} now" if moved else f"a slot is moving ({words_of(error)})"
            )
        except _BROKEN as error:
            raise self._unavailable(error) from None
        self._topology.forget()
        await self.disconnect(nowait=True)
        raise SlotUnavailable(
            int(moved[1]) if moved else self.slot,
            f"The node cannot execute this now: {words}",
            node=name_of((self.host, self.port)),
            is_moving=True,
        ) from None

    def _unavailable(self, error: Exception) -> Exception:
        """Return what to raise for a connection that broke. The cluster is looked at before the next one is made."""
        known = error if isinstance(error, SlotUnavailable) else error.__cause__
        if isinstance(known, SlotUnavailable):  # redis-py packs it into another one
            return known
        if isinstance(error, _REFUSED):
            return error
        node = self.host, self.port
        self._topology.forget()
        if isinstance(error, redis.exceptions.TimeoutError | TimeoutError):
            self._topology.timed_out(node)
        return SlotUnavailable(self.slot, words_of(error), node=name_of(node))


class ToSlotEncrypted(ToSlot, SSLConnection):
    """The same over TLS."""


class NodeConnections:
    """The connections of a process to all nodes, at most `most` in use at a time.

    Args:
        topology: The cluster.
        kind: The class of a connection.
        options: Its options.
        most: Connections at most.

    """

    def __init__(
        self, topology: Topology, kind: type[ToSlot], options: Mapping[str, Any], *, most: int
    ) -> None:
        self.topology, self.kind, self.options = topology, kind, {**options, "topology": topology}
        self._most = most
        self._idle: list[ToSlot] = []
        self._in_use: set[ToSlot] = set()
        self._changed = asyncio.Condition()

    def make(self, slot: int) -> ToSlot:
        """Return a new connection, which belongs to the caller."""
        connection = self.kind(**self.options)
        connection.slot = slot
        return connection

    async def take(self, slot: int, slots: frozenset[int]) -> ToSlot:
        """Return a connection for a slot. It may have to be connected, or to another node.

        Raises:
            SlotUnavailable: No node serves the slot, or the one that does is silent.
            redis.exceptions.ConnectionError: All are in use, or no node answers.

        """
        node = await self.topology.node_of(slot)
        self.topology.admit(slot, node)
        try:
            async with asyncio.timeout(WAIT_SECONDS), self._changed:
                await self._changed.wait_for(lambda: len(self._in_use) < self._most)
                self.topology.admit(slot, node)  # those that had the connections may have waited in vain
                connection = await self._pick(slot, node)
                connection.slot, connection.slots = slot, slots
                self._in_use.add(connection)
        except TimeoutError:
            raise redis.exceptions.ConnectionError("No connection available.") from None
        return connection

    async def _pick(self, slot: int, node: Node) -> ToSlot:
        """Return an idle connection to a node; otherwise one that is not connected."""
        for connection in reversed(self._idle):
            if (connection.host, connection.port) == node or not connection.is_connected:
                self._idle.remove(connection)
                return connection
        if len(self._idle) + len(self._in_use) < self._most:
            return self.make(slot)
        connection = self._idle.pop(0)
        await connection.disconnect(nowait=True)
        return connection

    async def give_back(self, connection: ToSlot) -> None:
        """Take back a connection that was taken."""
        async with self._changed:
            self._in_use.discard(connection)
            self._idle.append(connection)
            self._changed.notify()

    async def disconnect(self, *, in_use: bool = True) -> None:
        """Close the connections: all, or those that are idle."""
        await self.topology.close()
        connections = [*self._idle, *(self._in_use if in_use else ())]
        await asyncio.gather(*(each.disconnect() for each in connections), return_exceptions=True)


class SlotPool(ConnectionPool):
    """A view of the connections for the keys of one slot.

    Args:
        connections: The connections.
        slot: The slot.
        slots: Further slots that the same node serves, for a pipeline.

    """

    def __init__(self, connections: NodeConnections, slot: int, slots: frozenset[int] = frozenset()) -> None:
        super().__init__(connection_class=connections.kind, **connections.options)
        self.connections, self.slot, self._slots = connections, slot, slots

    @property
    def failovers(self) -> int:
        """How often the master of the slot was replaced."""
        return self.connections.topology.failovers_of(self.slot)

    async def get_connection(self, command_name: Any = None, *_: Any, **__: Any) -> ToSlot:
        """Return a connection; give it back with `release`."""
        del command_name
        connection = await self.connections.take(self.slot, self._slots)
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.connections.give_back(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        """Take back a connection."""
        await self.connections.give_back(connection)

    def make_connection(self) -> ToSlot:
        """Return a new connection, which belongs to the caller."""
        return self.connections.make(self.slot)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections to all nodes."""
        await self.connections.disconnect(in_use=inuse_connections)
