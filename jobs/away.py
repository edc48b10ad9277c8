"""The accounts of which a part of a cluster is away: their jobs wait, and those of the other accounts go on.

The keys of an account are on one node. While that does not answer, or its slot is being moved, a job could only fail.
The first one that does tells of all accounts on the node; once the node answers, they are planned, and so are due.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import redis.exceptions

from ordersync_consumer.servers.cluster import at, is_served_by
from worker.cancellation import end
from worker.redis.connections import answer
from worker.redis.refusals import explain
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from jobs.planner import Planner
    from ordersync_consumer.servers.topology import SlotUnavailable
    from worker.services import Services

LOOK_SECONDS = 1.0
"""Between two looks whether a node answers again."""
MOVING_SECONDS = 3.0
"""Until the jobs of an account are tried again whose slot is being moved: the node answers all the time."""
_LOGGED = 20
"""Names of accounts in a line of the log."""


@dataclass(slots=True)
class _Group:
    """The accounts that wait for one node, or for one slot that is being moved."""

    names: list[str] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)


class AwayAccounts:
    """Knows which accounts wait, and plans them when they need not wait any more. `Services.away` says so to others."""

    def __init__(self, services: Services, planner: Planner) -> None:
        self._services, self._planner = services, planner
        self._groups = defaultdict[tuple[str, int], _Group](_Group)
        self._watching: asyncio.Task[None] | None = None
        self._repeats, self._log = Repeats(), get_logger()

    async def note(self, error: SlotUnavailable) -> None:
        """Let the accounts wait of which a job has failed with this error, and those on the same node."""
        slot = error.slot if error.is_moving or not error.node else -1
        services, words, names = self._services, explain(error), list[str]()
        for name in list(services.configured):
            key = services.keys.of(name).base
            if name not in services.away and await is_served_by(services.redis, key, error.node, slot):
                names.append(name)
        if not names:
            return  # noted before, or it is a key that belongs to no account
        group = self._groups[error.node, slot]
        group.names += names
        services.away.update(dict.fromkeys(names, words))
        services.touched.update(names)
        what = f"{error.node} {slot}"
        if self._repeats.allow(what, time.monotonic()):
            self._log.warning(
                "slot_unavailable", node=error.node, error=words, waiting=len(group.names),
                accounts=group.names[:_LOGGED], repeated=self._repeats.held_back(what),
                advice="The other accounts go on. These are taken up automatically when the node answers or another "
                "one has its slots: look at CLUSTER NODES.",
            )  # fmt: skip
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while self._groups:
            await anyio.sleep(LOOK_SECONDS)
            for (node, slot), group in list(self._groups.items()):
                if await self._answers(group, is_moving=bool(node) and slot >= 0):
                    await self._take_up(node, slot)

    async def _answers(self, group: _Group, *, is_moving: bool) -> bool:
        """Return True if the accounts of a group can be tried again."""
        if is_moving:
            return time.monotonic() - group.since >= MOVING_SECONDS
        keys = self._services.keys.of(group.names[0])
        try:
            await answer(at(self._services.redis, keys.base).exists(keys.layout))
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError):
            return False
        except redis.exceptions.ResponseError:
            return True  # a job will say what is wrong with the answer
        return True

    async def _take_up(self, node: str, slot: int) -> None:
        group = self._groups.pop((node, slot))
        self._forget(group)
        self._log.info(
            "slot_available", node=node, waiting=len(group.names), accounts=group.names[:_LOGGED],
            after_s=round(time.monotonic() - group.since, 1),
        )  # fmt: skip
        try:
            await self._planner.plan(group.names)
        except (redis.exceptions.RedisError, OSError) as error:  # they are due a little later then
            self._log.debug("accounts_not_planned", error=str(error))

    def _forget(self, group: _Group) -> None:
        for name in group.names:
            self._services.away.pop(name, None)
        self._services.touched.update(group.names)

    async def close(self) -> None:
        """End; the next worker finds out for itself."""
        if self._watching is not None:
            await end(self._watching)
        for group in self._groups.values():
            self._forget(group)
        self._groups.clear()
