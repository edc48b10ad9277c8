"""Which node of a cluster serves which slot."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import redis.exceptions
from redis.asyncio import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS

from ordersync_consumer.redaction import words_of
from ordersync_consumer.servers.sentinel import ANSWER_SECONDS, CONNECT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Node = tuple[str, int]

_PAUSE_SECONDS = 0.1
"""Between two looks at the cluster: many connections break at once."""
_TRIAL_SECONDS = 0.5
"""Between two attempts to reach a node that lets commands time out."""


class SlotUnavailable(redis.exceptions.ConnectionError):
    """The keys of one slot of a cluster cannot be used at the moment. Those of other slots may be.

    Attributes:
        slot: The slot.
        node: Host and port of the node that serves it; "" if none does.
        is_moving: The node has answered: the slot is being moved to another one.

    """

    def __init__(self, slot: int, words: str, *, node: str = "", is_moving: bool = False) -> None:
        where = f"slot {slot}" if node in words else f"slot {slot}, node {node}"
        super().__init__(f"{words} ({where})" if node else words)
        self.slot, self.node, self.is_moving = slot, node, is_moving


class Topology:
    """The masters of a cluster and their slots, as a node has last reported them.

    Args:
        hosts: The nodes that are asked at first; later all that are known.
        options: The options of redis-py for the connections: login and TLS.

    """

    def __init__(self, hosts: Iterable[Node], options: Mapping[str, Any]) -> None:
        self._known = list(hosts)
        self._options = {
            **options,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": ANSWER_SECONDS,
        }
        self._nodes: list[Node | None] = [None] * SLOTS
        self._ids: list[bytes] = [b""] * SLOTS
        self._failovers = [0] * SLOTS
        self._is_stale, self._looked_at = True, -_PAUSE_SECONDS
        self._looking = asyncio.Lock()
        self._silent: dict[Node, asyncio.Task[None]] = {}
        """Nodes that let a command time out, and the task that waits until each answers."""

    async def node_of(self, slot: int) -> Node:
        """Return host and port of the master that serves a slot.

        Raises:
            SlotUnavailable: No master serves the slot.
            redis.exceptions.ConnectionError: No node answers.

        """
        await self._look()
        node = self._nodes[slot]
        if node is None:
            raise SlotUnavailable(slot, f"CLUSTERDOWN No node of the cluster serves slot {slot}")
        return node

    async def slots_of_masters(self) -> list[int]:
        """Return a slot of each master that is known to serve any.

        Raises:
            redis.exceptions.ConnectionError: No node answers, or no slot is served.

        """
        await self._look()
        found: dict[Node, int] = {}
        for slot, node in enumerate(self._nodes):
            if node is not None:
                found.setdefault(node, slot)
        if not found:
            raise redis.exceptions.ConnectionError("CLUSTERDOWN No node of the cluster serves any slot")
        return list(found.values())

    def forget(self) -> None:
        """Look at the cluster again before the next connection: a node has failed, or a slot has moved."""
        self._is_stale = True

    def timed_out(self, node: Node) -> None:
        """Let commands for a node fail at once until it answers: they would take all connections and wait for it."""
        if node not in self._silent:
            self._silent[node] = waiting = asyncio.create_task(self._wait_until_answered(node))
            waiting.add_done_callback(lambda _: self._silent.pop(node))

    def admit(self, slot: int, node: Node) -> None:
        """Let a command wait for a node, if that answers.

        Raises:
            SlotUnavailable: The node has let a command time out, and has not answered since.

        """
        if node in self._silent:
            self.forget()
            raise SlotUnavailable(slot, "The node lets commands time out", node=name_of(node))

    async def _wait_until_answered(self, node: Node) -> None:
        while True:
            await asyncio.sleep(_TRIAL_SECONDS)
            try:
                await self._ask(node)
            except (redis.exceptions.TimeoutError, TimeoutError):
                continue
            except (redis.exceptions.RedisError, OSError):
                return  # it refuses at once, which costs the commands no time
            return

    async def close(self) -> None:
        """End what goes on in the background."""
        tasks = list(self._silent.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def failovers_of(self, slot: int) -> int:
        """Return how often the master of a slot was replaced. A slot that moves to another master is not counted."""
        return self._failovers[slot]

    async def _look(self) -> None:
        async with self._looking:
            if not self._is_stale or time.monotonic() - self._looked_at < _PAUSE_SECONDS:
                return
            said = []
            for node in sorted(self._known, key=self._silent.__contains__):
                # One that has lost the others must not be asked forever.
                self._known.remove(node)
                self._known.append(node)
                try:
                    reply = await self._ask(node)
                except (redis.exceptions.RedisError, OSError) as error:
                    said.append(f"{node[0]}:{node[1]}: {words_of(error, 120)}")
                    continue
                self._take(reply, node)
                self._is_stale, self._looked_at = False, time.monotonic()
                return
            raise redis.exceptions.ConnectionError(f"No node of the cluster can be asked ({'; '.join(said)})")

    async def _ask(self, node: Node) -> Sequence[Any]:
        client = Redis(host=node[0], port=node[1], **self._options)
        client.response_callbacks.pop("CLUSTER SLOTS", None)
        try:
            reply: Sequence[Any] = await client.execute_command("CLUSTER SLOTS", NEVER_DECODE=True)  # type: ignore[no-untyped-call] # untyped in redis-py
        finally:
            await client.aclose()
        return reply

    def _take(self, reply: Sequence[Any], asked: Node) -> None:
        """Take over what a node has reported: for each range of slots its master, then the replicas."""
        nodes: list[Node | None] = [None] * SLOTS
        ids = [b""] * SLOTS
        known = list(self._known)
        for first, last, master, *replicas in reply:
            node, name = _node(master, asked), bytes(master[2])
            nodes[first : last + 1] = [node] * (last + 1 - first)
            ids[first : last + 1] = [name] * (last + 1 - first)
            known += [node, *(_node(each, asked) for each in replicas)]
        masters = set(ids)
        for slot, before in enumerate(self._ids):
            if before and ids[slot] and ids[slot] != before and before not in masters:
                self._failovers[slot] += 1
            ids[slot] = ids[slot] or before
        self._nodes, self._ids, self._known = nodes, ids, list(dict.fromkeys(known))


def name_of(node: Node) -> str:
    """Return a node as people write it."""
    return f"{node[0]}:{node[1]}"


def _node(entry: Sequence[Any], asked: Node) -> Node:
    """Return host and port of a node. It may have no address of its own: then it is the node that was asked."""
    host = entry[0].decode() if entry[0] else asked[0]
    return ("" if host == "?" else host) or asked[0], int(entry[1])
